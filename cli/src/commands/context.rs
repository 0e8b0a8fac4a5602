//! `meshfed context`: list, choose, show and forget contexts.

use crate::args::{ContextArgs, ContextCommand};
use crate::contexts::{Contexts, Store};
use crate::failure::Outcome;
use crate::output::Ui;
use crate::render::style::Style;
use crate::render::table::{Table, left};

/// Runs `meshfed context`.
///
/// # Errors
/// The contexts cannot be read or written, or there is no such one.
pub fn run(args: ContextArgs, ui: &Ui) -> Outcome {
    let store = Store::of_user()?;
    match args.command.unwrap_or(ContextCommand::List) {
        ContextCommand::List => {
            let contexts = store.read()?;
            ui.result(&contexts, |style| list(&contexts, &store.path().display().to_string(), style))
        }
        ContextCommand::Show { name } => {
            let contexts = store.read()?;
            let (_, context) = contexts.find(name.as_deref())?;
            ui.result(context, |_| api::yaml::write(context).unwrap_or_default())
        }
        ContextCommand::Use { name } => {
            let context = store.change(|contexts| {
                let (name, context) = contexts.find(Some(&name))?;
                let (name, context) = (name.to_owned(), context.clone());
                contexts.current = Some(name);
                Ok(context)
            })?;
            ui.result(&context, |_| format!("commands without --context talk to {name} now"))
        }
        ContextCommand::Remove { name } => {
            let context = store.change(|contexts| {
                let (name, context) = contexts.find(Some(&name))?;
                let (name, context) = (name.to_owned(), context.clone());
                contexts.contexts.remove(&name);
                contexts.current.take_if(|current| *current == name);
                Ok(context)
            })?;
            ui.result(&context, |_| match &context.directory {
                Some(directory) => {
                    format!("context {name} is forgotten; the site is still in {}", directory.display())
                }
                None => format!("context {name} is forgotten"),
            })
        }
    }
}

fn list(contexts: &Contexts, file: &str, style: Style) -> String {
    if contexts.contexts.is_empty() {
        return format!("no contexts in {file}\n\nnext: meshfed init east");
    }
    let mut table = Table::new(vec![
        left("", 9),
        left("CONTEXT", 9),
        left("API", 8),
        left("TRUST DOMAIN", 5),
        left("DIRECTORY", 1),
    ]);
    for (name, context) in &contexts.contexts {
        let chosen = contexts.current.as_ref() == Some(name);
        let directory = context.directory.as_ref().map(|d| d.display().to_string()).unwrap_or_default();
        table.row(vec![
            if chosen { "*" } else { "" }.into(),
            name.as_str().into(),
            context.api.to_string().into(),
            context.trust_domain.to_string().into(),
            directory.into(),
        ]);
    }
    table.text(style)
}
