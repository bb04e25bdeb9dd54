//! Where the services are and who asks: flags, environment and the configuration file, merged in that
//! order. Only this file reads the process's environment.

use crate::args::Global;
use crate::failure::{Exit, Failure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the environment says. A value, so that tests can pass one.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    pub config: Option<PathBuf>,
    pub context: Option<String>,
    pub inventory: Option<String>,
    pub scheduler: Option<String>,
    pub images: Option<String>,
    pub identity: Option<PathBuf>,
    pub bmc_password: Option<String>,
    pub no_color: bool,
    /// Configuration file where nothing else names one.
    pub default_config: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = path("XDG_CONFIG_HOME").or_else(|| path("HOME").map(|home| home.join(".config")));
        Self {
            config: path("FARRIER_CONFIG"),
            context: text("FARRIER_CONTEXT"),
            inventory: text("FARRIER_INVENTORY"),
            scheduler: text("FARRIER_SCHEDULER"),
            images: text("FARRIER_IMAGES"),
            identity: path("FARRIER_IDENTITY"),
            bmc_password: text("FARRIER_BMC_PASSWORD"),
            no_color: text("NO_COLOR").is_some(),
            default_config: home.map(|dir| dir.join("farrier/config.toml")),
        }
    }
}

/// The configuration file. Unknown keys are refused: a typing error must not pass for a setting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Context used when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One installation and one identity in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// `https://host:port`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inventory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    /// Directory of `cert.pem`, `key.pem` and `ca.pem`; relative to the configuration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<PathBuf>,
}

/// A setting and where it came from, which an error message will want to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced<T> {
    pub value: T,
    pub source: String,
}

/// Everything a command needs to reach the services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Name of the context in use, if any.
    pub context: Option<String>,
    pub inventory: Option<Sourced<String>>,
    pub scheduler: Option<Sourced<String>>,
    pub images: Option<Sourced<String>>,
    pub identity: Option<Sourced<PathBuf>>,
}

/// The path of the configuration file, and whether somebody asked for exactly this one.
pub fn path(global: &Global, env: &Environment) -> Result<(PathBuf, bool), Failure> {
    let named = global.config.clone().or_else(|| env.config.clone());
    match (named, &env.default_config) {
        (Some(path), _) => Ok((path, true)),
        (None, Some(path)) => Ok((path.clone(), false)),
        (None, None) => {
            Err(Failure::usage("no configuration file: HOME is not set; name one with --config FILE"))
        }
    }
}

/// Reads the configuration file. A missing one is empty, unless it was asked for.
pub fn read(global: &Global, env: &Environment) -> Result<File, Failure> {
    let Ok((path, named)) = path(global, env) else { return Ok(File::default()) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => return Ok(File::default()),
        Err(error) => {
            return Err(Failure::file(&path, "read", &error).next("`farrier context set NAME …` writes one"));
        }
    };
    toml::from_str(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// Writes the configuration file whole, or not at all.
pub fn write(path: &Path, file: &File) -> Result<(), Failure> {
    let text = toml::to_string_pretty(file)
        .map_err(|e| Failure::refused(format!("cannot write the configuration: {e}")))?;
    let failed = |error: std::io::Error| Failure::file(path, "write", &error);
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    let new = path.with_extension("toml.new");
    std::fs::write(&new, text).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)
}

/// Flag, else environment, else context.
pub fn resolve(global: &Global, env: &Environment, file: &File, dir: &Path) -> Result<Settings, Failure> {
    let named = global.context.as_ref().or(env.context.as_ref());
    let name = named.or(file.current.as_ref());
    let context = match name {
        None => Context::default(),
        Some(name) => file.contexts.get(name).cloned().ok_or_else(|| unknown(name, file))?,
    };
    let origin = name.map_or_else(String::new, |name| format!("context {name}"));
    let text = |flag: &Option<String>, var: &Option<String>, held: &Option<String>, word: &str| {
        pick(flag.clone(), var.clone(), held.clone(), word, &origin)
    };
    let flags = &global.endpoints;
    Ok(Settings {
        inventory: text(&flags.inventory, &env.inventory, &context.inventory, "inventory"),
        scheduler: text(&flags.scheduler, &env.scheduler, &context.scheduler, "scheduler"),
        images: text(&flags.images, &env.images, &context.images, "images"),
        identity: pick(
            flags.identity.clone(),
            env.identity.clone(),
            context.identity.as_ref().map(|held| dir.join(held)),
            "identity",
            &origin,
        ),
        context: name.cloned(),
    })
}

/// The settings of this command line.
pub fn load(global: &Global, env: &Environment) -> Result<Settings, Failure> {
    let file = read(global, env)?;
    let dir =
        path(global, env).ok().and_then(|(path, _)| path.parent().map(Path::to_owned)).unwrap_or_default();
    resolve(global, env, &file, &dir)
}

/// A context that the file does not have.
pub fn unknown(name: &str, file: &File) -> Failure {
    let known: Vec<_> = file.contexts.keys().map(String::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Failure::new(Exit::Usage, format!("no context {name:?} in the configuration file; it has: {known}"))
        .next("`farrier context set NAME --inventory URL …` makes one")
}

fn pick<T>(flag: Option<T>, var: Option<T>, held: Option<T>, word: &str, origin: &str) -> Option<Sourced<T>> {
    flag.map(|value| Sourced { value, source: format!("--{word}") })
        .or_else(|| {
            var.map(|value| Sourced { value, source: format!("FARRIER_{}", word.to_ascii_uppercase()) })
        })
        .or_else(|| held.map(|value| Sourced { value, source: origin.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        current = "lab"
        [contexts.lab]
        inventory = "https://lab:1"
        scheduler = "https://lab:2"
        identity = "me"
        [contexts.prod]
        inventory = "https://prod:1"
        identity = "/abs"
    "#;

    fn settings(global: &Global, env: &Environment) -> Result<Settings, Failure> {
        resolve(global, env, &toml::from_str(FILE).unwrap(), Path::new("/etc/f"))
    }

    fn value<T: Clone>(sourced: &Option<Sourced<T>>) -> (T, String) {
        let s = sourced.clone().unwrap();
        (s.value, s.source)
    }

    #[test]
    fn flags_beat_environment_beats_context() {
        let mut global = Global::default();
        let mut env = Environment::default();
        let got = settings(&global, &env).unwrap();
        assert_eq!(value(&got.inventory), ("https://lab:1".into(), "context lab".into()));
        assert_eq!(value(&got.identity), (PathBuf::from("/etc/f/me"), "context lab".into()));
        assert_eq!(got.images, None);

        env.inventory = Some("https://env:1".into());
        env.context = Some("prod".into());
        let got = settings(&global, &env).unwrap();
        assert_eq!(value(&got.inventory), ("https://env:1".into(), "FARRIER_INVENTORY".into()));
        assert_eq!(value(&got.identity), (PathBuf::from("/abs"), "context prod".into()));

        global.endpoints.inventory = Some("https://flag:1".into());
        global.context = Some("lab".into());
        let got = settings(&global, &env).unwrap();
        assert_eq!(value(&got.inventory), ("https://flag:1".into(), "--inventory".into()));
        assert_eq!(value(&got.scheduler), ("https://lab:2".into(), "context lab".into()));
    }

    #[test]
    fn an_unknown_context_names_the_known_ones() {
        let global = Global { context: Some("moon".into()), ..Global::default() };
        let failure = settings(&global, &Environment::default()).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("lab, prod"), "{failure:?}");
    }

    #[test]
    fn a_typing_error_in_the_file_is_refused() {
        assert!(toml::from_str::<File>("[contexts.a]\ninventroy = 'x'").is_err());
    }

    #[test]
    fn a_file_survives_writing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/config.toml");
        let file: File = toml::from_str(FILE).unwrap();
        write(&path, &file).unwrap();
        let global = Global { config: Some(path), ..Global::default() };
        assert_eq!(read(&global, &Environment::default()).unwrap(), file);
    }

    #[test]
    fn a_missing_file_is_empty_unless_it_was_named() {
        let env = Environment { default_config: Some("/nonexistent/f".into()), ..Environment::default() };
        assert_eq!(read(&Global::default(), &env).unwrap(), File::default());
        let global = Global { config: Some("/nonexistent/f".into()), ..Global::default() };
        assert!(read(&global, &env).is_err());
    }
}
