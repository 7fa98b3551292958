//! Grammars as the commands read them.

use crate::folder::{Folder, text};

#[test]
fn every_command_that_reads_a_grammar_tells_its_notes_once() {
    let f = Folder::empty();
    f.write("g.txt", "S A 0.5\nS B 0.5\nA a a2 1\nA a b2 1\nB b a2 1\nB b b2 1\nX a 1\n");
    let config = "[language]\nrules = \"g.txt\"\nmax_length = 2\n[model]\nhidden_size = 8\nnum_hidden_layers = 1\n\
                  num_attention_heads = 1\nintermediate_size = 8\n[train]\nsteps = 4\nbatch_size = 8\n\
                  evaluate_every = 2\n[evaluate]\nsentences = 20\n";
    f.write("run.toml", config);
    let sweep = "base = \"run.toml\"\noutput = \"out\"\n[grid]\nseed = [1, 2]\n[examine]\nsentences = 20\n\
                 [[examine.probe]]\ntask = \"A\"\nmethod = \"ridge\"\ntrain = 20\nvalidation = 10\ntest = 10\n";
    f.write("s.toml", sweep);
    let task = ["--task", "A", "--train", "20", "--validation", "10", "--test", "10", "--seeds", "1", "--json"];
    let probe = [&["probe", "r/model", "run.toml", "--method", "ridge"][..], &task].concat();
    for arguments in [
        &["language", "vocabulary", "run.toml"][..],
        &["language", "floor", "run.toml", "--count", "5", "--json"],
        &["train", "run.toml", "output=r", "--json"],
        &["train", "run.toml", "--dry-run", "--json"],
        &["eval", "r/model", "run.toml", "--count", "5", "--json"],
        &["measure", "trace", "r/model", "run.toml", "--count", "5", "--estimator", "exact-labels", "--json"],
        &probe,
        &["sweep", "plan", "s.toml", "--json"],
        &["sweep", "run", "s.toml", "--json"],
        &["sweep", "collect", "s.toml", "--json"],
    ] {
        let (printed, notes) = f.printed(arguments);
        assert_eq!(notes.matches("`X` is never reached from `S`").count(), 1, "{arguments:?}: {notes}");
        assert!(!printed.contains("never reached"), "{arguments:?}");
    }
}

#[test]
fn byte_order_marks_are_skipped() {
    let f = Folder::empty();
    let marked = |name: &str, text: &str| f.write(name, &format!("\u{feff}{text}"));
    marked("own.txt", "S A B 1\nA a 1\nB b 1\n");
    marked("nltk.txt", "S -> A B [1]\nA -> 'a' [1]\nB -> 'b' [1]\n");
    marked("hmm.txt", "initial a 1\ntransition a a 1\nemission a a 1\nemission a b 1\n");
    marked("own.toml", "[language]\nrules = \"own.txt\"\n");
    marked("nltk.toml", "[language]\nrules = \"nltk.txt\"\n");
    marked("hmm.toml", "[language]\nkind = \"hmm\"\nmatrices = \"hmm.txt\"\nmax_length = 2\n");
    marked("sweep.toml", "base = \"own.toml\"\n[grid]\nseed = [1]\n");
    for config in ["own.toml", "nltk.toml", "hmm.toml"] {
        let (printed, notes) = f.printed(&["language", "vocabulary", config]);
        assert_eq!(printed, "a\nb\n", "{config}: {notes}");
    }
    f.printed(&["sweep", "plan", "sweep.toml"]);
    f.printed(&["language", "vocabulary", "own.toml", "language.max_length=4"]);
    let output = f.with_input(&["language", "conditional", "own.toml"], "\u{feff}a b\n".as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    marked("wrong.toml", "[language]\nrules = \"own.txt\"\nmax_lenght = 2\n");
    let error = text(&f.lowland(&["language", "vocabulary", "wrong.toml"]).stderr);
    assert!(error.contains("wrong.toml:3") && error.contains("max_length"), "{error}");
}
