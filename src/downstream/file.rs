//! Tasks from files of rows. One file is shuffled and cut into the three parts; a folder has `train`, `validation` and
//! `test` files, or, as those of GLUE, whose test parts have no labels, `train` and `dev`: dev is then the test part,
//! and the validation part is split off train.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::data::{Losses, Named, Sizes, TaskData, TaskError};
use super::rows::{Columns, ENDINGS, Row, Rows, error};
use crate::model::Vocabulary;
use crate::random::{Purpose, Stream};

/// The limits that sentences of a file must keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'v> {
    /// The words that the model knows.
    pub vocabulary: &'v Vocabulary,
    /// Words that the model has positions for.
    pub longest: usize,
}

/// Rows of a task's files, all of them.
#[derive(Clone, Debug)]
pub struct TaskRows {
    task: String,
    files: Files,
    skipped: u64,
}

#[derive(Clone, Debug)]
enum Files {
    /// One, to be cut into the three parts.
    One(Vec<Row>),
    /// Train and dev.
    Two([Vec<Row>; 2]),
    /// The three parts.
    Three([Vec<Row>; 3]),
}

/// Rows of the three parts of a task.
#[derive(Clone, Debug)]
pub struct TaskTexts {
    /// The file or folder.
    pub task: String,
    /// To train on, to choose an epoch or a ridge by, to test on.
    pub parts: [Vec<Row>; 3],
    /// Rows of the files that have no label or too few columns.
    pub skipped: u64,
}

/// What was made of a row's texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded<S> {
    /// The sentence.
    pub sentence: S,
    /// Its words or tokens.
    pub length: usize,
    /// Pieces that the texts were cut into.
    pub pieces: usize,
    /// Those of them that nothing is known of.
    pub unknown: usize,
    /// Whether pieces were cut off.
    pub truncated: bool,
}

/// The label that GLUE's test parts have in the form of Hugging Face's `datasets`: none.
const NO_LABEL: &str = "-1";

impl TaskRows {
    /// Reads a file, or the files of a folder.
    ///
    /// # Errors
    /// With file and line: what cannot be read; columns that are not there; labels that are empty.
    pub fn read(path: &Path, columns: &Columns) -> Result<TaskRows, TaskError> {
        let mut skipped = 0;
        let mut first: Option<(PathBuf, Vec<String>)> = None;
        let mut rows = |path: &Path| {
            let read = Rows::read(path, columns)?;
            skipped += read.skipped;
            // Parts of one task are texts of one kind.
            let (file, names) = first.get_or_insert_with(|| (path.into(), read.columns.clone()));
            if *names != read.columns {
                let message = format!(
                    "its columns are `{}`, those of {} `{}`; rename them, or name the ones to take in every file",
                    read.columns.join("`, `"),
                    file.display(),
                    names.join("`, `")
                );
                return Err(error(path.display(), message));
            }
            Ok::<_, TaskError>(read.rows)
        };
        let files = if path.is_dir() {
            let train = find(path, "train")?;
            let (dev, validation) = (find(path, "dev"), find(path, "validation"));
            match (dev, validation, find(path, "test")) {
                (Ok(dev), ..) => Files::Two([rows(&train)?, rows(&dev)?]),
                (_, Ok(validation), Err(_)) => Files::Two([rows(&train)?, rows(&validation)?]),
                (_, validation, test) => {
                    let (validation, test) = (validation?, test?);
                    let parts = [rows(&train)?, rows(&validation)?, rows(&test)?];
                    let none = |rows: &[Row]| rows.iter().all(|row| row.label == NO_LABEL);
                    if none(&parts[2]) && !none(&parts[0]) {
                        let message = "all labels are -1, which marks rows without one; without this file the \
                                       validation file is the test part";
                        return Err(error(test.display(), message));
                    }
                    Files::Three(parts)
                }
            }
        } else {
            Files::One(rows(path)?)
        };
        let rows = TaskRows { task: path.display().to_string(), files, skipped };
        let zero = rows.each().any(|row| row.label == "0");
        if let Some(unlabelled) = rows.each().find(|row| zero && row.label == NO_LABEL) {
            return Err(unlabelled.wrong(
                "the label -1 beside 0, as `datasets` marks a row without a label; leave such rows out, or give the \
                 class another name",
            ));
        }
        Ok(rows)
    }

    /// All rows.
    fn each(&self) -> impl Iterator<Item = &Row> {
        let files: Vec<&[Row]> = match &self.files {
            Files::One(rows) => vec![rows],
            Files::Two(files) => files.iter().map(Vec::as_slice).collect(),
            Files::Three(files) => files.iter().map(Vec::as_slice).collect(),
        };
        files.into_iter().flatten()
    }

    /// Whether files of their own for training and testing have a label in common.
    fn shared_labels(&self) -> Result<(), TaskError> {
        let (train, test) = match &self.files {
            Files::One(_) => return Ok(()),
            Files::Two([train, test]) | Files::Three([train, _, test]) => (train, test),
        };
        let labels = |rows: &[Row]| rows.iter().map(|row| row.label.clone()).collect::<BTreeSet<String>>();
        let (learnt, asked) = (labels(train), labels(test));
        if asked.is_empty() || !asked.is_disjoint(&learnt) {
            return Ok(());
        }
        let named = |labels: &BTreeSet<String>| {
            let some: Vec<&str> = labels.iter().take(10).map(String::as_str).collect();
            some.join("`, `")
        };
        let message = format!(
            "the test part has none of the labels of the training part: `{}`, not `{}`; write both alike",
            named(&asked),
            named(&learnt)
        );
        Err(TaskError::Wrong { place: format!("task {}", self.task), message })
    }

    /// The three parts, where there are more rows than asked for a random choice of them, which is the seed's.
    ///
    /// # Errors
    /// Too few rows; files of which the one to test on has none of the labels of the one to train on.
    pub fn parts(self, seed: u64, sizes: Sizes) -> Result<TaskTexts, TaskError> {
        self.shared_labels()?;
        let wanted = [sizes.train, sizes.validation, sizes.test];
        let few = |rows: usize, file: String| TaskError::FewRows { file, rows, asked: wanted };
        let parts = match self.files {
            Files::One(mut rows) => {
                if rows.len() < wanted.iter().sum() {
                    return Err(few(rows.len(), self.task));
                }
                shuffle(&mut rows, seed, 0);
                let mut rest = rows.into_iter();
                wanted.map(|n| rest.by_ref().take(n).collect())
            }
            Files::Two([mut train, mut test]) => {
                if train.len() < sizes.validation + 2 {
                    let file = &train[0].file;
                    let message = format!(
                        "{} rows; {} of them are to validate, which leaves fewer than 2 to train on",
                        train.len(),
                        sizes.validation
                    );
                    return Err(error(file, message));
                }
                shuffle(&mut train, seed, 0);
                shuffle(&mut test, seed, 2);
                let validation = train.split_off(train.len() - sizes.validation);
                train.truncate(sizes.train);
                test.truncate(sizes.test);
                [train, validation, test]
            }
            Files::Three(mut parts) => {
                for (i, (rows, wanted)) in parts.iter_mut().zip(wanted).enumerate() {
                    shuffle(rows, seed, i as u64);
                    rows.truncate(wanted);
                }
                parts
            }
        };
        Ok(TaskTexts { task: self.task, parts, skipped: self.skipped })
    }
}

impl TaskTexts {
    /// Whether any row is a pair.
    pub fn has_pairs(&self) -> bool {
        self.parts.iter().flatten().any(|row| row.second.is_some())
    }

    /// The task's data, of sentences that are made of each row's texts: words of a language, tokens of a model, or the
    /// words that stand for a tokenizer's pieces in a language of some of them. Beside it what was lost, with the
    /// length of the longest sentence.
    ///
    /// # Errors
    /// With the row: what cannot be made a sentence. Labels that are all the same.
    pub fn encode<S: Send>(
        self,
        encode: impl Fn(&Row) -> Result<Encoded<S>, String> + Sync,
    ) -> Result<(TaskData<S>, Losses), TaskError> {
        let (mut longest, mut truncated, mut pieces, mut unknown) = (0, 0, 0, 0);
        let mut parts = Vec::with_capacity(3);
        for rows in &self.parts {
            let made: Vec<Result<Encoded<S>, String>> = rows.par_iter().map(&encode).collect();
            let mut named = Named::with_capacity(rows.len());
            for (row, made) in rows.iter().zip(made) {
                let made = made.map_err(|message| row.wrong(message))?;
                longest = longest.max(made.length);
                truncated += u64::from(made.truncated);
                pieces += made.pieces;
                unknown += made.unknown;
                named.push((made.sentence, row.label.clone()));
            }
            parts.push(named);
        }
        let losses =
            Losses { max_tokens: longest, truncated, unknown_share: unknown as f64 / (pieces as f64).max(1.0) };
        let data = TaskData::numbered(self.task, parts, longest)?;
        Ok((TaskData { skipped: self.skipped, ..data }, losses))
    }
}

impl TaskData {
    /// Reads a file or a folder of files, whose texts are words of a language with blanks between them.
    ///
    /// # Errors
    /// With file and line: what cannot be read, words that the model does not know, sentences that are too long, labels
    /// that are empty; too few rows.
    pub fn of_file(path: &Path, limits: Limits<'_>, seed: u64, sizes: Sizes) -> Result<TaskData, TaskError> {
        TaskData::of_words(TaskRows::read(path, &Columns::default())?, limits, seed, sizes)
    }

    /// The same of rows that were read.
    ///
    /// # Errors
    /// As [`of_file`](Self::of_file).
    pub fn of_words(rows: TaskRows, limits: Limits<'_>, seed: u64, sizes: Sizes) -> Result<TaskData, TaskError> {
        // Those that are not drawn too, so that a file is good or not whatever the seed.
        rows.each().try_for_each(|row| limits.words(row).map(drop).map_err(|message| row.wrong(message)))?;
        let (data, _) = rows.parts(seed, sizes)?.encode(|row| limits.words(row))?;
        Ok(data)
    }
}

impl Limits<'_> {
    fn words(&self, row: &Row) -> Result<Encoded<Vec<u32>>, String> {
        if row.second.is_some() {
            return Err("a pair of texts; a language's sentence is one".into());
        }
        let number = |word: &str| {
            let unknown =
                || format!("`{}` is not in the model's vocabulary", word.chars().take(40).collect::<String>());
            self.vocabulary.number(word).ok_or_else(unknown)
        };
        let words: Vec<u32> = row.first.split_whitespace().map(number).collect::<Result<_, _>>()?;
        match words.len() {
            0 => Err("a sentence without words".into()),
            n if n > self.longest => Err(format!("{n} words, the model has positions for {}", self.longest)),
            n => Ok(Encoded { sentence: words, length: n, pieces: n, unknown: 0, truncated: false }),
        }
    }
}

fn shuffle(rows: &mut [Row], seed: u64, part: u64) {
    let mut stream = Stream::new(seed, Purpose::Downstream, part);
    for i in (1..rows.len()).rev() {
        rows.swap(i, stream.below(i as u32 + 1) as usize);
    }
}

fn find(folder: &Path, name: &str) -> Result<PathBuf, TaskError> {
    let candidates = ENDINGS.map(|ending| folder.join(format!("{name}.{ending}")));
    let found = candidates.into_iter().find(|path| path.exists());
    found.ok_or_else(|| error(folder.display(), format!("has no {name}.csv, {name}.jsonl or {name}.tsv")))
}
