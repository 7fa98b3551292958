//! Files of texts: GLUE's tables, as `csv.DictReader` with `QUOTE_NONE` reads them, columns, folders.

use crate::common::fixtures::fixture;
use lowland::downstream::{Columns, Encoded, Row, Sizes, TaskRows, TaskTexts};

const SIZES: Sizes = Sizes { train: 100, validation: 2, test: 100 };

/// Rows of one file in a folder with nothing else, in their order: all of them are the training part.
fn read(name: &str, text: impl AsRef<[u8]>, columns: &Columns) -> Result<(Vec<Row>, u64), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let rows = TaskRows::read(&path, columns).map_err(|e| e.to_string())?;
    let count = |sizes| rows.clone().parts(0, sizes);
    let most = (0..50).rev().find(|n| count(Sizes { train: *n, validation: 0, test: 0 }).is_ok()).unwrap();
    let TaskTexts { parts: [mut train, ..], skipped, .. } =
        count(Sizes { train: most, validation: 0, test: 0 }).unwrap();
    train.sort_by_key(|row| row.line);
    Ok((train, skipped))
}

fn known() -> Columns {
    Columns::default()
}

/// Texts and labels.
fn content(rows: &[Row]) -> Vec<(&str, Option<&str>, &str)> {
    rows.iter().map(|row| (row.first.as_str(), row.second.as_deref(), row.label.as_str())).collect()
}

#[test]
fn quotes_ends_of_lines_and_missing_columns_of_glue_are_as_the_reference_reads_them() {
    let sst2 = "sentence\tlabel\r\nhide new secretions \t0\r\n\"a quote that never ends\t1\r\n\r\nonly a text\r\n\
                no label\t\r\n\t1\n two \"\"quotes\"\" , commas\t0\textra\r last\t1";
    let (rows, skipped) = read("train.tsv", sst2, &known()).unwrap();
    let wanted = [
        ("hide new secretions ", None, "0"),
        ("\"a quote that never ends", None, "1"),
        ("", None, "1"),
        (" two \"\"quotes\"\" , commas", None, "0"),
        (" last", None, "1"),
    ];
    assert_eq!(content(&rows), wanted);
    assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<u64>>(), [2, 3, 7, 8, 9]);
    assert_eq!(skipped, 2, "a row of one column and one with an empty label");

    let qnli = "index\tquestion\tsentence\tlabel\n0\tWho \"won\"?\tHe\u{2028}did.\tentailment\n\
                1\tWhat?\tbroken\n2\tWhere?\t\tnot_entailment\n";
    let (rows, skipped) = read("dev.tsv", qnli, &known()).unwrap();
    let wanted = [("Who \"won\"?", Some("He\u{2028}did."), "entailment"), ("Where?", Some(""), "not_entailment")];
    assert_eq!((content(&rows), skipped), (wanted.to_vec(), 1));
}

#[test]
fn columns_are_found_by_name_or_named() {
    let named = |texts: &[&str], label: Option<&str>| Columns {
        texts: texts.iter().map(|name| name.to_string()).collect(),
        label: label.map(str::to_string),
    };
    let table = "a,b,label,c\n1,2,x,3\n";
    assert_eq!(content(&read("t.csv", table, &named(&["a"], None)).unwrap().0), [("1", None, "x")]);
    assert_eq!(content(&read("t.csv", table, &named(&["b", "a"], Some("c"))).unwrap().0), [("2", Some("1"), "3")]);
    let lines = "{\"idx\":3,\"premise\":\"p\",\"hypothesis\":\"h\",\"label\":0}\n";
    assert_eq!(content(&read("t.jsonl", lines, &known()).unwrap().0), [("p", Some("h"), "0")]);
    let qqp = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tq\tr\t1\n";
    assert_eq!(content(&read("t.tsv", qqp, &known()).unwrap().0), [("q", Some("r"), "1")]);
    for (name, text, columns, wanted) in [
        ("test.tsv", "index\tsentence\n0\ta\n", known(), "test.tsv:1: no column `label`"),
        ("t.tsv", "", known(), "t.tsv:1: no column `text`, nor `question` and `sentence`"),
        ("t.tsv", "text\tlabel\n\nonly\n", known(), "t.tsv: holds no row with a label"),
        ("t.tsv", "text\tlabel\na\t  \n", known(), "t.tsv: holds no row with a label"),
        ("t.csv", "text,label\na,  \n", known(), "t.csv:2: `label` is empty"),
        ("t.tsv", "text\tlabel\ttext\na\tb\tc\n", known(), "t.tsv:1: two columns `text`"),
        ("t.csv", table, named(&["d"], None), "t.csv:1: no column `d`; the first line has: a, b, label, c"),
        ("t.csv", table, named(&["a"], Some("d")), "no column `d`"),
        ("t.jsonl", "{\"a\":1}\n", known(), "t.jsonl:1: no key `text`"),
        ("t.jsonl", "{\"text\":\"a\",\"label\":1}\n{\"text\":1,\"label\":1}\n", known(), "t.jsonl:2: no string `text`"),
        ("t.jsonl", "[1]\n", known(), "t.jsonl:1: no object"),
    ] {
        let error = read(name, text, &columns).unwrap_err();
        assert!(error.contains(wanted), "{name} {text:?}: {error}");
    }
    assert!(read("t.tsv", b"text\tlabel\n\xff\t1\n", &known()).unwrap_err().contains("t.tsv:2: is not UTF-8"));
}

/// A table of so many rows with labels 0 and 1, or this one.
fn table(from: u32, rows: u32, label: Option<&str>) -> String {
    let line = |i: u32| format!("text {i}\t{}\n", label.map_or((i % 2).to_string(), str::to_string));
    "sentence\tlabel\n".to_string() + &(from..from + rows).map(line).collect::<String>()
}

fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
    folder
}

#[test]
fn labels_of_blanks_are_none_and_whole_numbers_are_one_class() {
    let (rows, skipped) = read("t.tsv", "text\tlabel\na\t \nb\t 1.0\nc\t-0.0\nd\t1.5\ne\tv1.0\n", &known()).unwrap();
    assert_eq!(
        (rows.iter().map(|row| row.label.as_str()).collect::<Vec<_>>(), skipped),
        (vec!["1", "0", "1.5", "v1.0"], 1)
    );
    let lines = ["1", "1.0", "1e0", "\"1\"", "true"].map(|label| format!("{{\"text\":\"a\",\"label\":{label}}}\n"));
    let (rows, _) = read("t.jsonl", lines.concat(), &known()).unwrap();
    assert_eq!(rows.iter().map(|row| row.label.as_str()).collect::<Vec<_>>(), ["1", "1", "1", "1", "true"]);
}

#[test]
fn files_of_one_folder_have_the_same_columns_and_labels() {
    let pairs = "question\tsentence\tlabel\nq\ta\t0\nq\tb\t1\n".to_string();
    let mixed = folder(&[("train.tsv", table(0, 9, None)), ("dev.tsv", pairs)]);
    let error = TaskRows::read(mixed.path(), &known()).unwrap_err().to_string();
    assert!(error.contains("dev.tsv: its columns are `question`, `sentence`, `label`, those of "), "{error}");
    let named = Columns { texts: vec!["sentence".into()], label: None };
    assert!(TaskRows::read(mixed.path(), &named).is_ok(), "named columns are in both");
    let data = |dev: String| {
        let files = folder(&[("train.tsv", table(0, 9, None)), ("dev.tsv", dev)]);
        let texts = TaskRows::read(files.path(), &known()).unwrap().parts(0, SIZES).map_err(|e| e.to_string())?;
        let made =
            texts.encode(|row| Ok(Encoded { sentence: row.line, length: 1, pieces: 1, unknown: 0, truncated: false }));
        made.map(|(data, _)| data).map_err(|error| error.to_string())
    };
    let error = data(table(0, 4, Some("x"))).unwrap_err();
    assert!(error.contains("none of the labels of the training part: `x`, not `0`, `1`"), "{error}");
    let some = data(table(0, 4, None) + "a text\ty\n").unwrap();
    assert_eq!(some.unlearnt(), ["y"]);
    assert!(data(table(0, 4, None)).unwrap().unlearnt().is_empty());
}

#[test]
fn dev_is_the_test_part_and_train_gives_the_validation_part() {
    let unlabelled = "index\tsentence\n0\ta\n".to_string();
    let glue = folder(&[("train.tsv", table(0, 20, None)), ("dev.tsv", table(50, 6, None)), ("test.tsv", unlabelled)]);
    let parts = |seed, sizes| TaskRows::read(glue.path(), &known()).unwrap().parts(seed, sizes).unwrap().parts;
    let [train, validation, test] = parts(1, SIZES);
    assert_eq!([train.len(), validation.len(), test.len()], [18, 2, 6]);
    let texts = |rows: &[Row]| rows.iter().map(|row| row.first.clone()).collect::<Vec<String>>();
    let mut all = [texts(&train), texts(&validation)].concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 20, "no row is in both");
    assert!(texts(&test).iter().all(|text| text.starts_with("text 5")), "{test:?}");
    assert_eq!(parts(1, SIZES), [train.clone(), validation, test], "a function of the seed");
    assert_ne!(parts(2, SIZES)[0], train);
    let small = Sizes { train: 5, validation: 3, test: 4 };
    assert_eq!(parts(1, small).map(|part| part.len()), [5, 3, 4]);
    let all = Sizes { train: 5, validation: 19, test: 4 };
    let error = TaskRows::read(glue.path(), &known()).unwrap().parts(1, all).unwrap_err().to_string();
    assert!(error.contains("train.tsv: 20 rows; 19 of them are to validate"), "{error}");
}

#[test]
fn folders_of_three_parts_and_of_hugging_face_are_read() {
    let three = |test: Option<&str>| {
        folder(&[
            ("train.tsv", table(0, 9, None)),
            ("validation.tsv", table(10, 5, None)),
            ("test.tsv", table(20, 4, test)),
        ])
    };
    let sizes = |folder: &tempfile::TempDir| {
        let parts = TaskRows::read(folder.path(), &known())?.parts(0, SIZES)?.parts;
        Ok::<_, lowland::downstream::TaskError>(parts.map(|part| part.len()))
    };
    assert_eq!(sizes(&three(None)).unwrap(), [9, 2, 4]);
    let error = sizes(&three(Some("-1"))).unwrap_err().to_string();
    assert!(error.contains("all labels are -1"), "{error}");
    // Rows without a label between others, as SNLI has them.
    let inside = folder(&[("train.tsv", table(0, 9, None) + "a text\t-1\n"), ("dev.tsv", table(10, 5, None))]);
    let error = sizes(&inside).unwrap_err().to_string();
    assert!(error.contains("train.tsv:11") && error.contains("-1 beside 0"), "{error}");
    let without_test = three(None);
    std::fs::remove_file(without_test.path().join("test.tsv")).unwrap();
    assert_eq!(sizes(&without_test).unwrap(), [7, 2, 5], "the validation file is the test part");
    std::fs::remove_file(without_test.path().join("validation.tsv")).unwrap();
    let error = sizes(&without_test).unwrap_err().to_string();
    assert!(error.contains("has no validation.csv, validation.jsonl or validation.tsv"), "{error}");
}

#[test]
fn rows_become_sentences_of_any_kind_with_counts_of_what_is_lost() {
    let glue = folder(&[("train.tsv", table(0, 20, None) + "only\n"), ("dev.tsv", table(50, 6, None))]);
    let texts = TaskRows::read(glue.path(), &known()).unwrap().parts(1, SIZES).unwrap();
    // Numbers of letters; the digits are outside.
    let encode = |row: &Row| {
        let sentence: Vec<u32> = row.first.bytes().map(u32::from).collect();
        let unknown = sentence.iter().filter(|b| **b < 58 && **b > 47).count();
        Ok(Encoded { length: sentence.len(), pieces: sentence.len(), unknown, truncated: unknown > 1, sentence })
    };
    let (data, losses) = texts.clone().encode(encode).unwrap();
    assert_eq!(([data.train.len(), data.test.len()], data.longest, data.skipped), ([18, 6], 7, 1));
    assert_eq!(data.classes, ["0", "1"]);
    // 10 of 26 texts have one digit, the others two.
    assert_eq!(losses.truncated, 16);
    assert!((losses.unknown_share - 42.0 / 172.0).abs() < 1e-12, "{losses:?}");
    let error = texts.encode::<()>(|row| Err(format!("no {}", row.first))).unwrap_err().to_string();
    assert!(error.contains(".tsv:") && error.contains(": no text "), "{error}");
}

#[test]
fn random_tables_are_read_as_python_reads_them() {
    let text = std::fs::read_to_string(fixture("texts/tables.json")).unwrap();
    let tables: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let (mut skipped_rows, mut empty) = (0, 0);
    for table in &tables {
        let wanted: Vec<(String, Option<String>, String)> = serde_json::from_value(table["rows"].clone()).unwrap();
        match read("t.tsv", table["text"].as_str().unwrap(), &known()) {
            Ok((rows, skipped)) => {
                let rows: Vec<_> = rows.into_iter().map(|row| (row.first, row.second, row.label)).collect();
                assert_eq!((rows, skipped.into()), (wanted, table["skipped"].clone()), "{}", table["text"]);
                skipped_rows += skipped;
            }
            Err(error) => {
                assert!(wanted.is_empty() && error.contains("holds no row with a label"), "{error}: {}", table["text"]);
                empty += 1;
            }
        }
    }
    assert!(tables.len() == 150 && skipped_rows > 50 && (1..40).contains(&empty), "{skipped_rows} {empty}");
}
