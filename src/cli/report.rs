//! `lowland report`: a page about a run, or about sweeps, made before.

use super::arguments::Report;
use super::failure::Failure;
use super::print;
use crate::interrupt;
use crate::report;

pub fn run(arguments: &Report) -> Result<(), Failure> {
    let (folder, out) = (arguments.folder.clone(), arguments.out.clone());
    let page = interrupt::or_stop(move || report::write(&folder, out.as_deref()))??;
    Ok(print::line(&page.display().to_string())?)
}
