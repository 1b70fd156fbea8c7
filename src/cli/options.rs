//! One flag for each setting.

use std::{fs, path::PathBuf};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, builder::PathBufValueParser};

use crate::settings::{self, Faults, Layer, SETTINGS, Settings};

const CONFIG: &str = "config";

/// The flags as they were given.
pub struct Options {
    config: Option<PathBuf>,
    flags: Layer,
}

impl Options {
    /// File, environment and flags together.
    pub fn settings(&self) -> Result<Settings, Faults> {
        let file = match &self.config {
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| Faults(vec![format!("settings file {}: {error}", path.display())]))?;
                settings::from_file(&text)?
            }
            None => Layer::new(),
        };
        let environment = settings::from_environment(std::env::vars());
        Settings::new(&settings::layered(&file, &environment, &self.flags))
    }
}

impl FromArgMatches for Options {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |name: &str| matches.get_one::<String>(name).cloned();
        let flags = SETTINGS.iter().filter_map(|setting| Some((setting.name.to_owned(), value(setting.name)?)));
        Ok(Self { config: matches.get_one::<PathBuf>(CONFIG).cloned(), flags: flags.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Options {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .env("DROVER_CONFIG")
            .value_parser(PathBufValueParser::new())
            .help("YAML file with settings by their names");
        SETTINGS.iter().fold(command.arg(config), |command, setting| {
            let default = match setting.default {
                "" => String::new(),
                default => format!(" [default: {default}]"),
            };
            command.arg(
                Arg::new(setting.name)
                    .long(setting.name)
                    .value_name("VALUE")
                    .help(format!("{}{default}", setting.help)),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
