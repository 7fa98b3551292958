//! `lowland completions` and `lowland man`.

use clap::CommandFactory;

use super::arguments::{Cli, Completions, Man};
use super::failure::Failure;
use super::print;

pub fn completions(arguments: &Completions) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "lowland", &mut text);
    Ok(print::line(String::from_utf8_lossy(&text).trim_end())?)
}

pub fn man(arguments: &Man) -> Result<(), Failure> {
    let Some(folder) = &arguments.out else {
        let mut text = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut text)?;
        return Ok(print::line(String::from_utf8_lossy(&text).trim_end())?);
    };
    std::fs::create_dir_all(folder).map_err(|e| Failure::io(folder, &e))?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(|e| Failure::io(folder, &e))
}
