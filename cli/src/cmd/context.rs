//! `farrier context …`: the configuration file.

use crate::args::Global;
use crate::context::{Context, Environment, File, Settings, Sourced, load, path, read, unknown, write};
use crate::failure::Failure;
use crate::output::{Column, Printer, Resource, column, wide};
use crate::talk;
use clap::Subcommand;
use farrier_identity::Credentials;
use serde_json::{Value, json};
use std::time::SystemTime;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Lists the contexts.
    List,
    /// Makes a context the current one.
    Use {
        /// The context, by its name.
        name: String,
    },
    /// Makes or changes a context from --inventory, --scheduler, --images and --identity.
    Set {
        /// The context, by its name.
        name: String,
        /// Make it the current one too. The first context always is.
        #[arg(long)]
        current: bool,
    },
    /// Removes a context.
    Delete {
        /// The context, by its name.
        name: String,
    },
    /// Shows what a command would use, where each part comes from, and who you are.
    Show,
}

pub fn run(verb: Verb, global: &Global, env: &Environment) -> Result<(), Failure> {
    let printer =
        Printer { format: global.output, colour: global.color.on_stdout(env), now: SystemTime::now() };
    match verb {
        Verb::List => {
            let file = read(global, env)?;
            let named = global.context.as_ref().or(env.context.as_ref()).or(file.current.as_ref());
            let rows: Vec<_> = file
                .contexts
                .iter()
                .map(|(name, context)| Row {
                    current: named == Some(name),
                    name: name.clone(),
                    context: context.clone(),
                })
                .collect();
            printer.list(&rows)
        }
        Verb::Use { name } => change(global, env, |file| {
            if !file.contexts.contains_key(&name) {
                return Err(unknown(&name, file));
            }
            file.current = Some(name.clone());
            Ok(format!("context {name} is current"))
        }),
        Verb::Set { name, current } => change(global, env, |file| {
            // Only flags: what the environment says holds for this shell, not for the file.
            let flags = &global.endpoints;
            let context = file.contexts.entry(name.clone()).or_default();
            for (held, flag) in [
                (&mut context.inventory, &flags.inventory),
                (&mut context.scheduler, &flags.scheduler),
                (&mut context.images, &flags.images),
            ] {
                if let Some(url) = flag {
                    if !url.starts_with("https://") {
                        return Err(Failure::usage(format!(
                            "{url} is not an address: expected https://host:port"
                        )));
                    }
                    *held = Some(url.clone());
                }
            }
            if let Some(dir) = &flags.identity {
                let whole = std::path::absolute(dir).map_err(|error| Failure::file(dir, "find", &error))?;
                context.identity = Some(whole);
            }
            if current || file.current.is_none() {
                file.current = Some(name.clone());
            }
            Ok(format!("context {name} set"))
        }),
        Verb::Delete { name } => {
            crate::prompt::confirm(global.yes, &format!("context {name} will be deleted"))?;
            change(global, env, |file| {
                if file.contexts.remove(&name).is_none() {
                    return Err(unknown(&name, file));
                }
                if file.current.as_ref() == Some(&name) {
                    file.current = None;
                }
                Ok(format!("context {name} deleted"))
            })
        }
        Verb::Show => printer.one(&Shown::of(load(global, env)?)),
    }
}

fn change(
    global: &Global,
    env: &Environment,
    edit: impl FnOnce(&mut File) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let (path, _) = path(global, env)?;
    // A file that was named and is not there yet is about to be made.
    let mut file = if path.exists() { read(global, env)? } else { File::default() };
    let said = edit(&mut file)?;
    write(&path, &file)?;
    talk::say(format_args!("{said} in {}", path.display()));
    Ok(())
}

/// A context in a list.
struct Row {
    current: bool,
    name: String,
    context: Context,
}

impl Resource for Row {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("CURRENT", |r, _| if r.current { "*".to_owned() } else { String::new() }),
            column("NAME", |r, _| r.name.clone()),
            column("INVENTORY", |r, _| r.context.inventory.clone().unwrap_or_default()),
            column("IDENTITY", |r, _| {
                r.context.identity.as_ref().map(|d| d.display().to_string()).unwrap_or_default()
            }),
            wide("SCHEDULER", |r, _| r.context.scheduler.clone().unwrap_or_default()),
            wide("IMAGES", |r, _| r.context.images.clone().unwrap_or_default()),
        ]
    }

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "current": self.current,
            "inventory": self.context.inventory,
            "scheduler": self.context.scheduler,
            "images": self.context.images,
            "identity": self.context.identity,
        })
    }
}

/// The settings in use, and who they make us.
struct Shown {
    settings: Settings,
    who: Result<String, String>,
}

impl Shown {
    fn of(settings: Settings) -> Self {
        let who = match &settings.identity {
            None => Err("no identity directory".to_owned()),
            Some(dir) => Credentials::load(&dir.value)
                .map(|credentials| credentials.identity().to_string())
                .map_err(|error| crate::failure::chain(&error)),
        };
        Self { settings, who }
    }
}

impl Resource for Shown {
    fn columns() -> Vec<Column<Self>> {
        vec![column("CONTEXT", |s, _| s.settings.context.clone().unwrap_or_default())]
    }

    const FIRST: &'static [&'static str] =
        &["context", "who", "who_error", "inventory", "scheduler", "images"];

    fn value(&self) -> Value {
        let url =
            |s: &Option<Sourced<String>>| s.as_ref().map(|s| json!({ "url": s.value, "from": s.source }));
        json!({
            "context": self.settings.context,
            "who": self.who.as_ref().ok(),
            "who_error": self.who.as_ref().err(),
            "inventory": url(&self.settings.inventory),
            "scheduler": url(&self.settings.scheduler),
            "images": url(&self.settings.images),
            "identity": self.settings.identity.as_ref()
                .map(|s| json!({ "dir": s.value, "from": s.source })),
        })
    }
}
