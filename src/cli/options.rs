//! One flag for each setting of a command.

use std::{fs, marker::PhantomData, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, builder::PathBufValueParser};

use crate::settings::{self, Faults, Layer, REPEATABLE, SETTINGS, Scope, Setting, Settings};

const CONFIG: &str = "config";

/// A command with settings of its own.
pub trait Command {
    /// Which settings are flags of it.
    const SCOPE: Scope;
}

/// `drover controller`.
pub struct Controller;

impl Command for Controller {
    const SCOPE: Scope = Scope::Controller;
}

/// `drover gateway`.
pub struct Gateway;

impl Command for Gateway {
    const SCOPE: Scope = Scope::Gateway;
}

/// `drover mirror`.
pub struct Mirror;

impl Command for Mirror {
    const SCOPE: Scope = Scope::Mirror;
}

/// `drover up`.
pub struct Up;

impl Command for Up {
    const SCOPE: Scope = Scope::Up;
}

/// The flags of a command as they were given.
pub struct Options<C> {
    config: Option<PathBuf>,
    flags: Layer,
    command: PhantomData<C>,
}

fn flags_of<C: Command>() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|setting| setting.scope.contains(&C::SCOPE))
}

impl<C: Command> Options<C> {
    /// File, environment and flags together.
    pub fn settings(&self) -> Result<Settings, Faults> {
        let (file, mut faults) = match self.file() {
            Ok(file) => (file, Vec::new()),
            Err(Faults(faults)) => (Layer::new(), faults),
        };
        let environment = settings::from_environment(std::env::vars());
        match Settings::new(&settings::layered(&file, &environment, &self.flags)) {
            Ok(settings) if faults.is_empty() => Ok(settings),
            Ok(_) => Err(Faults(faults)),
            Err(Faults(more)) => {
                faults.extend(more);
                Err(Faults(faults))
            }
        }
    }

    fn file(&self) -> Result<Layer, Faults> {
        let Some(path) = &self.config else { return Ok(Layer::new()) };
        let text = fs::read_to_string(path);
        let fault = |error| Faults(vec![format!("settings file {}: {error}", path.display())]);
        settings::from_file(&text.map_err(fault)?)
    }
}

impl<C: Command> FromArgMatches for Options<C> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |name: &str| {
            let values: Vec<&str> = matches.get_many::<String>(name)?.map(String::as_str).collect();
            Some(values.join(","))
        };
        let flags = flags_of::<C>().filter_map(|setting| Some((setting.name.to_owned(), value(setting.name)?)));
        Ok(Self { config: matches.get_one::<PathBuf>(CONFIG).cloned(), flags: flags.collect(), command: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<C: Command> Args for Options<C> {
    fn augment_args(command: clap::Command) -> clap::Command {
        let config = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .env("DROVER_CONFIG")
            .value_parser(PathBufValueParser::new())
            .help("YAML file with settings by their names");
        flags_of::<C>().fold(command.arg(config), |command, setting| {
            let default = match setting.default {
                "" => String::new(),
                default => format!(" [default: {default}]"),
            };
            command.arg(
                Arg::new(setting.name)
                    .long(setting.name)
                    .value_name("VALUE")
                    .action(if REPEATABLE.contains(&setting.name) { ArgAction::Append } else { ArgAction::Set })
                    .help(format!("{}{default}", setting.help)),
            )
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}
