//! The flags of a replica's configuration, made from the table of its keys.

use std::{env, ffi::OsString, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _, ValueHint};

use crate::config::{self, Absent, Environment, Given, KEYS, Key, Kind, Loaded};

/// The name of the flag that names the file, and its variable.
const FILE: &str = "config";
const FILE_VARIABLE: &str = "QUORUMWATCH_CONFIG";

/// The part of a replica's configuration that flags set.
#[derive(Clone, Debug, Default)]
pub(super) struct Configuration {
    file: Option<PathBuf>,
    flags: Vec<(&'static Key, Vec<OsString>)>,
}

impl Configuration {
    /// Reads the file and the environment beneath the flags.
    pub(super) fn load(self) -> Loaded {
        config::load(&Given {
            file: self.file,
            environment: Environment {
                variables: env::vars_os().collect(),
                others: other_variables(),
            },
            flags: self.flags,
        })
    }
}

/// Environment variables that commands read besides those of the configuration.
fn other_variables() -> Vec<String> {
    let mut names = variables_of(&super::Arguments::command());
    names.extend(super::connection::VARIABLES.map(str::to_owned));
    names
}

/// The variables that clap reads for some command.
fn variables_of(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(Arg::get_env);
    let own = own.map(|name| name.to_string_lossy().into_owned());
    own.chain(command.get_subcommands().flat_map(variables_of))
        .collect()
}

impl clap::Args for Configuration {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(FILE)
            .long(FILE)
            .value_name("FILE")
            .value_hint(ValueHint::FilePath)
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!(
                "A TOML file; environment variables override it, and flags override both [env: \
                 {FILE_VARIABLE}=]"
            ));
        let flags = KEYS.iter().filter_map(argument);
        command.arg(file).args(flags)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Configuration {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut read = Self::default();
        read.update_from_arg_matches(matches)?;
        Ok(read)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one(FILE).cloned();
        let given = |key: &'static Key| {
            let values = matches.get_many::<OsString>(key.flag?)?;
            Some((key, values.cloned().collect()))
        };
        self.flags = KEYS.iter().filter_map(given).collect();
        Ok(())
    }
}

/// The flag of a key. Its value is not validated here: all problems are reported together.
fn argument(key: &'static Key) -> Option<Arg> {
    let (flag, variable) = (key.flag?, key.variable?);
    let argument = Arg::new(flag)
        .long(flag)
        .value_parser(clap::value_parser!(OsString))
        .action(ArgAction::Append)
        .help(help(key, variable));
    Some(match key.kind {
        Kind::Switch => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("true|false"),
        Kind::Number(..) => argument.value_name("NUMBER"),
        Kind::Addresses => argument.value_name("NAME=HOST:PORT,..."),
        Kind::Path => argument.value_name("PATH").value_hint(ValueHint::AnyPath),
        Kind::Paths => argument.value_name("DIR").value_hint(ValueHint::DirPath),
        _ => argument.value_name(value_name(key)),
    })
}

fn value_name(key: &Key) -> &'static str {
    match key.unit {
        "address:port" => "ADDRESS:PORT",
        "host:port" => "HOST:PORT",
        "commands" => "COMMAND",
        _ if matches!(key.kind, Kind::Choice(_)) => "WORD",
        _ => "TEXT",
    }
}

fn help(key: &Key, variable: &str) -> String {
    let about = key.about;
    let unit = match (key.kind, key.unit) {
        (Kind::Number(least, most), unit) => format!(" In {unit}, from {least} to {most}."),
        _ => String::new(),
    };
    let many = if matches!(key.kind, Kind::Texts | Kind::Paths) {
        " May be repeated."
    } else {
        ""
    };
    let default = match key.absent {
        Absent::Value(value) => format!(" [default: {value}]"),
        Absent::Derived(from) => format!(" [default: {from}]"),
        Absent::Nothing | Absent::Required => String::new(),
    };
    format!("{about}{unit}{many} [env: {variable}=]{default}")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::{Configuration, KEYS};

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        configuration: Configuration,
    }

    fn flags(line: &str) -> Vec<(&'static str, Vec<String>)> {
        let line = Line::try_parse_from(line.split(' ')).unwrap();
        let text = |value: &std::ffi::OsString| value.to_string_lossy().into_owned();
        let flags = line.configuration.flags.iter();
        flags
            .map(|(key, values)| (key.path, values.iter().map(text).collect()))
            .collect()
    }

    #[test]
    fn every_key_of_the_table_with_a_flag_is_a_flag_and_no_other() {
        let command = Line::command();
        let known = command.get_arguments().filter_map(clap::Arg::get_long);
        let mut known: Vec<_> = known.filter(|name| *name != "help").collect();
        let mut wanted: Vec<_> = KEYS.iter().filter_map(|key| key.flag).collect();
        wanted.push("config");
        known.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(known, wanted);
    }

    #[test]
    fn a_switch_stands_alone_or_with_its_value() {
        let on = ("insecure_plaintext", vec!["true".to_owned()]);
        let off = ("insecure_plaintext", vec!["false".to_owned()]);
        assert_eq!(flags("x --insecure-plaintext"), [on]);
        assert_eq!(flags("x --insecure-plaintext=false"), [off]);
        let twice = vec!["aws".to_owned(), "gcloud".to_owned()];
        assert_eq!(
            flags("x --allow-exec aws --allow-exec gcloud"),
            [("allow_exec", twice)]
        );
    }

    #[test]
    fn the_variables_of_other_commands_are_known() {
        let known = super::other_variables();
        for variable in ["ENDPOINTS", "CONTEXT", "CLIENT_CONFIG"] {
            let name = format!("QUORUMWATCH_{variable}");
            assert!(known.contains(&name), "{known:?}");
        }
    }
}
