//! Text is cut into tokens once, with progress, before a command opens its config's language.

use super::failure::Failure;
use super::print;
use super::progress::Gauge;
use crate::config::{LanguageKind, OpenTextError, RunConfig};
use crate::curvature::Progress;
use crate::text::TextError;

/// Makes the tokens of a config's text where there is one and the cache does not have them.
pub fn prepare(config: &RunConfig) -> Result<(), Failure> {
    if config.language.kind != LanguageKind::Text {
        return Ok(());
    }
    let gauge = Gauge::new();
    // Kilobytes, as a count fits every machine then.
    let kib = |bytes: u64| bytes.div_ceil(1024) as usize;
    let show = |done: u64, of: u64| {
        gauge.show("tokens", "KiB", &Progress { done: kib(done), of: kib(of), value: None });
    };
    let text = config.language.text(&config.objective, &show);
    gauge.done();
    match text {
        Ok(text) => {
            let (train, held_out) = (&text.examples().train, &text.examples().held_out);
            print::note(&format!(
                "text: {} documents; {} examples of {} tokens to train on, {} of {} held out",
                text.examples().documents,
                train.examples(),
                train.tokens(),
                held_out.examples(),
                held_out.tokens()
            ));
            Ok(())
        }
        Err(OpenTextError::Config(error)) => Err(error.into()),
        Err(OpenTextError::Text(TextError::Interrupted)) => {
            Err(Failure::stopped("the text is not all cut into tokens, which the same command begins anew"))
        }
        Err(OpenTextError::Text(error)) => Err(error.into()),
    }
}
