//! Batches as a function of (seed, step): examples step·B .. (step + 1)·B, which are the language's sentences of
//! these numbers or, of a finite training set, those of its order; masked by their own random stream, or with their
//! next words predicted. Sampled and labelled ahead on other threads.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use rayon::prelude::*;

use super::evaluate::{KnownSentence, held_out_sentence, masked_in_turn, masked_place, masked_sentences, next_words};
use super::labels::mixed_label;
use super::masks::{bernoulli_positions, several};
use super::order::{Example, TrainingSet};
use crate::config::{
    AlgorithmKind, ConfigError, LabelKind, LabelNoise, LanguageKind, LanguageSection, MaskPolicy, ObjectiveKind,
    ObjectiveSection, Positions, TrainSection,
};
use crate::generated::Generated;
use crate::gpu::GpuError;
use crate::interrupt;
use crate::language::{Language, NoTruth, Truth};
use crate::model::{LoadError, Loaded, ModelError, TokenIds, Vocabulary, match_words};
use crate::ops::batch::{BatchLayout, Sentence};
use crate::ops::{Batch, Device};
use crate::random::{Purpose, Stream};

/// Seed of the sentences that evaluation uses, never trained on.
pub fn held_out_seed(seed: u64) -> u64 {
    seed ^ 0x9E37_79B9_7F4A_7C15
}

/// A language with the objective on it, and the ids that a model gives its words.
#[derive(Clone)]
pub struct Corpus {
    /// Where sentences and their conditionals come from.
    pub language: Arc<dyn Language>,
    /// The same where it is a generated one, which runs on an adapter.
    generated: Option<Arc<Generated>>,
    /// The tokens of a model that is trained here.
    pub vocabulary: Arc<Vocabulary>,
    /// What sentences are made of: the ids of that vocabulary, or those of another model.
    pub tokens: Arc<TokenIds>,
    /// What is masked, and what the labels are.
    pub objective: ObjectiveSection,
    /// Of the sentences, masks and labels.
    pub seed: u64,
}

impl Corpus {
    /// Reads or makes the language of a config.
    ///
    /// # Errors
    /// A grammar or matrices that cannot be used, with file and line; a config without a language; exact labels of one
    /// that does not know them.
    pub fn open(section: &LanguageSection, objective: &ObjectiveSection, seed: u64) -> Result<Corpus, ConfigError> {
        let generated = section.generated()?.map(Arc::new);
        let (language, vocabulary): (Arc<dyn Language>, Vocabulary) = match (&generated, section.kind) {
            (Some(generated), _) => (generated.clone(), Vocabulary::new(generated.vocabulary())),
            (None, LanguageKind::Text) => {
                let text = section.text(objective, &|_, _| {})?;
                let vocabulary = Vocabulary::of_tokenizer(text.pieces(), text.specials())
                    .map_err(|error| ConfigError::at("language.tokenizer", error))?;
                (Arc::new(text), vocabulary)
            }
            (None, _) => {
                let language = section.open()?;
                let vocabulary = Vocabulary::new(language.vocabulary());
                (language, vocabulary)
            }
        };
        if objective.labels.is_soft() && objective.mask != MaskPolicy::One {
            return Err(ConfigError {
                place: "objective.labels".into(),
                message:
                    "labels from the exact conditionals (\"expected\", \"mix\") are defined with one masked word a \
                          sentence; set `objective.mask = \"one\"`"
                        .into(),
            });
        }
        if objective.labels.is_soft() {
            language.truth().map_err(|none| ConfigError::at("objective.labels", none))?;
        }
        let tokens = Arc::new(vocabulary.ids());
        let (vocabulary, objective) = (Arc::new(vocabulary), objective.clone());
        Ok(Corpus { language, generated, vocabulary, tokens, objective, seed })
    }

    /// Puts a generated language's model on a device, for every clone; other languages need none.
    ///
    /// # Errors
    /// Weights that cannot be read; what the adapter has no room for.
    pub fn on(&self, device: &Device) -> Result<(), LoadError> {
        self.generated.as_ref().map_or(Ok(()), |generated| generated.on(device))
    }

    /// Whether sentences are drawn on an adapter, and their conditionals found there.
    pub fn needs_a_device(&self) -> bool {
        self.generated.is_some()
    }

    /// The same language under the ids of a model, its words matched by name, and what is worth a note. Of text the
    /// model must have the same tokenizer.
    ///
    /// # Errors
    /// The first word that the model has no token for, and where; sentences that it has no positions for.
    pub fn spoken_by(&self, model: &Loaded) -> Result<(Corpus, Vec<String>), ModelError> {
        let config = &model.encoder.config;
        let (tokens, notes) = match self.vocabulary.given() {
            Some(given) => given.ids_in(model)?,
            None => match_words(&model.folder, self.vocabulary.words(), config)?,
        };
        let (longest, positions) = (self.language.longest(), config.longest() as usize);
        if longest > positions {
            let message = format!(
                "the language's sentences have up to {longest} tokens, the model has positions for {positions}"
            );
            return Err(ModelError::Format { path: model.folder.clone(), message });
        }
        Ok((Corpus { tokens: Arc::new(tokens), ..self.clone() }, notes))
    }

    /// What is known of the language.
    ///
    /// # Errors
    /// Why nothing is.
    pub fn truth(&self) -> Result<&dyn Truth, NoTruth> {
        self.language.truth()
    }

    /// The same where a config that asks for what is known was opened.
    fn checked_truth(&self) -> &dyn Truth {
        self.truth().expect("`open` refuses soft labels of a language whose truth is not known")
    }

    /// That a model, whose ids these are, can be asked what the objective asks.
    ///
    /// # Errors
    /// A model that sees the words that it is to predict; one without a token for masked words, where they are masked.
    pub fn suits(&self, model: &Loaded) -> Result<(), ModelError> {
        let kind = self.objective.kind;
        kind.check_reach(&model.encoder.config)
            .and_then(|()| match kind == ObjectiveKind::Mlm && !self.tokens.has_mask() {
                true => Err("has no token for the masked word, and no file beside it names one; only what \"causal\" \
                             predicts can be asked of it (`objective.kind`)"
                    .into()),
                false => Ok(()),
            })
            .map_err(|message| ModelError::Format { path: model.folder.clone(), message })
    }

    /// Sentence number `index` of ever new ones, masked and labelled as the objective says.
    pub fn sentence(&self, index: u64) -> Sentence {
        self.example(Example { sentence: index, masking: index })
    }

    /// A sentence under one of its maskings, labelled as the objective says.
    pub fn example(&self, example: Example) -> Sentence {
        let words = self.language.sample(self.seed, example.sentence);
        if self.objective.kind == ObjectiveKind::Causal {
            let positions = self.predicted(words.len());
            let sentence = self.tokens.next(&words, positions.clone());
            return match self.objective.labels {
                LabelKind::Sampled => sentence,
                LabelKind::Expected => next_words(self.checked_truth(), &self.tokens, &words, positions).sentence,
                LabelKind::Mix(mix) => {
                    let known = self.checked_truth().prefixes(&words).expect("a sentence of the language is possible");
                    // Behind the last word stands the end, which is the last of the conditionals' entries.
                    let label = |k: usize| words.get(k).map_or(known.next[k].len() - 1, |w| *w as usize);
                    let soft = |k: usize| self.tokens.soft_label(&mixed_label(&mix, &known.next[k], label(k)));
                    Sentence { soft: positions.map(soft).collect(), ..sentence }
                }
            };
        }
        match self.objective.mask {
            MaskPolicy::One => {
                let position = masked_place(&self.tokens, self.seed, example.masking, &words);
                let mut sentence = self.tokens.mask(&words, position);
                let known = || self.checked_truth().conditional_at(&words, position);
                match self.objective.labels {
                    LabelKind::Sampled => {}
                    LabelKind::Expected => sentence.soft = vec![self.tokens.soft_label(&known())],
                    LabelKind::Mix(mix) => {
                        let label = words[position] as usize;
                        sentence.soft = vec![self.tokens.soft_label(&mixed_label(&mix, &known(), label))];
                    }
                }
                sentence
            }
            MaskPolicy::Bernoulli(p) => {
                let places = self.tokens.maskable(&words);
                self.tokens.mask_all(&words, &bernoulli_positions(self.seed, example.masking, &places, p))
            }
            MaskPolicy::Several(masks) => several(&masks, &self.tokens, &words, self.seed, example.masking),
        }
    }

    /// Sentence `index` of a seed as a model is evaluated and measured on it, labelled with the words that stood there:
    /// one word masked, whatever the masks of training, or the next words predicted.
    pub fn held_out(&self, seed: u64, index: u64) -> Sentence {
        match self.objective.kind {
            ObjectiveKind::Mlm => held_out_sentence(self.language.as_ref(), &self.tokens, seed, index),
            ObjectiveKind::Causal => {
                let words = self.language.held_out(seed, index);
                self.tokens.next(&words, self.predicted(words.len()))
            }
        }
    }

    /// The same, under "mlm" once for each position that is asked about.
    pub fn labelled(&self, seed: u64, index: u64, asked: Positions) -> Vec<Sentence> {
        match (self.objective.kind, asked) {
            (ObjectiveKind::Mlm, Positions::All) => masked_in_turn(&self.tokens, &self.language.held_out(seed, index)),
            _ => vec![self.held_out(seed, index)],
        }
    }

    /// The same with what the language knows of it.
    pub fn known(&self, truth: &dyn Truth, seed: u64, index: u64, asked: Positions) -> Vec<KnownSentence> {
        match self.objective.kind {
            ObjectiveKind::Mlm => masked_sentences(truth, &self.tokens, seed, index, asked),
            ObjectiveKind::Causal => {
                let words = truth.held_out(seed, index);
                let positions = self.objective.predicted(words.len());
                vec![next_words(truth, &self.tokens, &words, positions)]
            }
        }
    }

    /// Positions that are predicted of a sentence of so many words under "causal": those of the objective, as far as
    /// there is something to predict them from.
    fn predicted(&self, length: usize) -> Range<usize> {
        let (asked, there) = (self.objective.predicted(length), self.tokens.predictable(length));
        let (from, to) = (asked.start.max(there.start), asked.end.min(there.end));
        // One at least, as every range has of every sentence.
        if from < to { from..to } else { there.end - 1..there.end }
    }

    /// Predicted positions of a sentence of [`held_out`](Self::held_out) at most.
    pub fn most_predicted(&self) -> u32 {
        match self.objective.kind {
            ObjectiveKind::Mlm => 1,
            ObjectiveKind::Causal => self.predicted(self.language.max_length()).len() as u32,
        }
    }

    /// Predicted positions that a batch of `sentences` sentences may have at most.
    pub fn most_masked(&self, sentences: u32) -> u32 {
        if self.objective.kind == ObjectiveKind::Causal {
            return sentences * self.most_predicted();
        }
        match self.objective.mask {
            MaskPolicy::One => sentences,
            MaskPolicy::Bernoulli(_) => sentences * self.language.max_length() as u32,
            MaskPolicy::Several(masks) => sentences * masks.predicted(self.language.max_length()) as u32,
        }
    }
}

/// Replaces labels as a function of (seed, sentence, position).
fn replace_labels(sentence: &mut Sentence, noise: &LabelNoise, corpus: &Corpus, index: u64) {
    for (position, label) in &mut sentence.masked {
        // Two blocks per position: one number that decides, and a word. A sentence's end may become a word, no word an
        // end.
        let mut stream = Stream::new(corpus.seed, Purpose::LabelNoise, index).from_block(2 * *position);
        if stream.uniform() < noise.probability {
            *label = corpus.tokens.random_word(&mut stream);
        }
    }
}

/// One micro-batch and what its masked positions weigh: 1 / masked positions of the whole step.
pub struct Micro {
    /// Sentences packed for the adapter.
    pub batch: Batch,
    /// What each position's loss is multiplied by.
    pub weight: f32,
}

/// The micro-batches of one step.
pub(super) fn step_data(corpus: &Corpus, layout: &BatchLayout, step: u64, train: &TrainSection) -> Vec<Micro> {
    let (batch_size, micro_batch) = (train.batch_size, train.micro_batch());
    let first = step * u64::from(batch_size);
    let set = TrainingSet::new(train.sentences, corpus.objective.maskings(), corpus.seed);
    let one = |j: u32| {
        let index = first + u64::from(j);
        let mut sentence = corpus.example(set.example(index));
        if let AlgorithmKind::LabelNoise(noise) = &train.algorithm {
            replace_labels(&mut sentence, noise, corpus, index);
        }
        sentence
    };
    let sentences: Vec<Sentence> = (0..batch_size).into_par_iter().with_min_len(32).map(one).collect();
    let masked: usize = sentences.iter().map(|s| s.masked.len()).sum();
    let weight = 1.0 / masked as f32;
    sentences
        .chunks(micro_batch as usize)
        .map(|chunk| Micro { batch: Batch::new(layout, chunk).weighing(weight * train.loss_scale()), weight })
        .collect()
}

/// Steps made ahead on a thread of their own.
pub(super) struct Ahead {
    receiver: Receiver<Vec<Micro>>,
}

/// Steps that are ready before the adapter asks for them.
const AHEAD: usize = 4;

impl Ahead {
    /// Starts making the data of steps `from..`.
    pub fn start(corpus: Corpus, layout: BatchLayout, from: u64, train: &TrainSection) -> Ahead {
        let (sender, receiver) = sync_channel(AHEAD);
        let train = train.clone();
        std::thread::spawn(move || {
            let mut step = from;
            // The channel closes when the trainer is done.
            while sender.send(step_data(&corpus, &layout, step, &train)).is_ok() {
                step += 1;
            }
        });
        Ahead { receiver }
    }

    /// The next step's micro-batches.
    ///
    /// # Errors
    /// [`GpuError::Interrupted`] while they are waited for; the thread died.
    pub fn next(&self) -> Result<Vec<Micro>, GpuError> {
        loop {
            interrupt::check()?;
            match self.receiver.recv_timeout(Duration::from_millis(50)) {
                Ok(micros) => return Ok(micros),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(GpuError::Lost("the thread that makes batches died".into()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RunConfig;

    /// Labels of a step of some sentences.
    fn labels(overrides: &[&str], step: u64) -> (Vec<u32>, Vec<[u32; 4]>) {
        let text = "[language]\nrandom = { levels = 3, symbols = 3, rules = 2, vocabulary = 20, seed = 1 }\n\
                    max_length = 8\n[objective]\nmask = { bernoulli = 0.5 }\n";
        let overrides: Vec<String> = overrides.iter().map(|o| o.to_string()).collect();
        let config = RunConfig::parse(text, "x").unwrap().with(&overrides).unwrap();
        let corpus = Corpus::open(&config.language, &config.objective, config.seed).unwrap();
        let layout = BatchLayout { tables: [24, 12, 1], first_position: 2, segment: 64 };
        let micros = step_data(&corpus, &layout, step, &config.train);
        let all = |micro: Micro| (micro.batch.labels, micro.batch.ids);
        let (labels, ids): (Vec<_>, Vec<_>) = micros.into_iter().map(all).unzip();
        (labels.concat(), ids.concat())
    }

    #[test]
    fn noise_replaces_its_share_of_labels_and_nothing_else() {
        let p = 0.3;
        let noise = format!("train.algorithm={{ kind = \"label-noise\", probability = {p} }}");
        let (clean, sentences) = labels(&["train.batch_size=4096"], 0);
        let (noisy, same) = labels(&[&noise, "train.batch_size=4096"], 0);
        assert_eq!(sentences, same);
        let n = clean.len() as f64;
        let changed: Vec<u32> = clean.iter().zip(&noisy).filter(|(a, b)| a != b).map(|(_, b)| *b).collect();
        // A replacement is the word itself once in 20 times.
        let want = p * (1.0 - 1.0 / 20.0);
        let share = changed.len() as f64 / n;
        assert!((share - want).abs() < 4.0 * (want * (1.0 - want) / n).sqrt(), "{share} of {want}");
        for word in 4..24 {
            let count = changed.iter().filter(|w| **w == word).count() as f64;
            // At most p n / 20 of a word; fewer of a frequent one, which replaces itself.
            assert!(count > 0.5 * p * n / 20.0 && count < 1.3 * p * n / 20.0, "word {word}: {count}");
        }
        // A function of the sentence's number, however the sentences are cut.
        let cut: Vec<u32> =
            (0..2).flat_map(|s| labels(&[&noise, "train.batch_size=2048", "train.micro_batch=100"], s).0).collect();
        assert_eq!(cut, noisy);
        assert_ne!(labels(&[&noise, "train.batch_size=4096", "seed=1"], 0).0, noisy);
    }
}
