//! Bottlerocket on metal: `user-data.toml` (settings) and `net.toml` (read by netdog, see [`super::netdog`]).

use super::{
    bottlerocket_settings::{ONLY_AWS, SETTINGS, Shape},
    near::or_near,
    netdog,
};
use crate::inventory::Problem;
use provisioner_wire::order::{Config, ConfigFile};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A table with the place of every key and value.
pub(super) type Table<'a> = DeTable<'a>;

pub(super) fn validate(config: &Config, problems: &mut Vec<Problem>) {
    if !config.files.iter().any(|file| file.name == "user-data.toml") {
        problems.push(Problem::new("user-data.toml", "Bottlerocket on metal needs this file"));
    }
    for file in &config.files {
        match file.name.as_str() {
            "user-data.toml" => user_data(file, problems),
            "net.toml" => {
                if let Some(table) = parse(file, problems) {
                    netdog::validate(file, &table, problems);
                }
            }
            name => problems.push(Problem::new(name, "Bottlerocket reads user-data.toml and net.toml only")),
        }
    }
}

/// The file as TOML, or a problem at its place.
pub(super) fn parse<'a>(file: &'a ConfigFile, problems: &mut Vec<Problem>) -> Option<Table<'a>> {
    match DeTable::parse(&file.contents) {
        Ok(table) => Some(table.into_inner()),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            // The reader's message names kinds of tokens, not values.
            problems.push(at_offset(file, at, error.message().to_owned()));
            None
        }
    }
}

pub(super) fn at_offset(file: &ConfigFile, offset: usize, message: impl Into<String>) -> Problem {
    let before = file.contents.get(..offset).unwrap_or(&file.contents);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Problem::new(format!("{}:{line}:{column}", file.name), message)
}

fn user_data(file: &ConfigFile, problems: &mut Vec<Problem>) {
    let Some(table) = parse(file, problems) else { return };
    for (key, value) in &table {
        if key.get_ref() == "settings" {
            Check { file, problems }.value("settings", value, Shape::Group(SETTINGS));
        } else {
            // Bottlerocket leaves it out without a word.
            let message = format!("user data holds [settings.…] only, not {}", key.get_ref());
            problems.push(at_offset(file, key.span().start, message));
        }
    }
    if !file.contents.is_empty() && !table.contains_key("settings") {
        problems.push(at_offset(file, 0, "there is no [settings], without which the first boot stops"));
    }
}

struct Check<'c> {
    file: &'c ConfigFile,
    problems: &'c mut Vec<Problem>,
}

impl Check<'_> {
    fn value(&mut self, path: &str, value: &Spanned<DeValue<'_>>, shape: Shape) {
        let wanted = match (shape, value.get_ref()) {
            (Shape::Any, _)
            | (Shape::Flag, DeValue::Boolean(_))
            | (Shape::Whole, DeValue::Integer(_))
            | (Shape::Text, DeValue::String(_)) => return,
            (Shape::Group(known), DeValue::Table(table)) => return self.group(path, table, known),
            (Shape::Named(shape), DeValue::Table(table)) => return self.named(path, table, *shape),
            (Shape::Mirrors(_), DeValue::Table(table)) => return self.named(path, table, Shape::List),
            (Shape::List, DeValue::Array(items)) => return self.items(path, items, Shape::Text),
            (Shape::Items(known) | Shape::Mirrors(known), DeValue::Array(items)) => {
                return self.items(path, items, Shape::Group(known));
            }
            (Shape::Flag, _) => "true or false",
            (Shape::Whole, _) => "a whole number",
            (Shape::Text, _) => "a text",
            (Shape::List, _) => "a list of texts",
            (Shape::Named(_) | Shape::Group(_), _) => "a table",
            (Shape::Items(_) | Shape::Mirrors(_), _) => "a list of tables",
        };
        self.say(value.span().start, format!("{path} is not {wanted}"));
    }

    fn items(&mut self, path: &str, items: &[Spanned<DeValue<'_>>], shape: Shape) {
        for (index, item) in items.iter().enumerate() {
            self.value(&format!("{path}[{index}]"), item, shape);
        }
    }

    fn named(&mut self, path: &str, table: &Table<'_>, shape: Shape) {
        for (key, value) in table {
            self.value(&format!("{path}.{}", key.get_ref()), value, shape);
        }
    }

    fn group(&mut self, path: &str, table: &Table<'_>, known: &'static [(&'static str, Shape)]) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            let path = format!("{path}.{name}");
            match known.iter().find(|(known, _)| *known == name) {
                Some((_, shape)) => self.value(&path, value, *shape),
                None if path.strip_prefix("settings.").is_some_and(|group| ONLY_AWS.contains(&group)) => {
                    self.say(
                        key.span().start,
                        format!("{path} is of Bottlerocket's variants for AWS, not for metal"),
                    );
                }
                None => {
                    let names: Vec<&str> = known.iter().map(|(known, _)| *known).collect();
                    self.say(key.span().start, or_near(format!("unknown field {path}"), name, &names));
                }
            }
        }
    }

    fn say(&mut self, at: usize, message: String) {
        self.problems.push(at_offset(self.file, at, message));
    }
}
