//! PURE. Template files and one context → the text of a machine's config files.
//!
//! `templates/machine-config/SET/NAME.KIND.j2` gives the file NAME. KIND says how a value stands in it, so that a value
//! never becomes structure: `yaml` writes `{{ x }}` as a quoted YAML scalar (lists and maps in flow style), `json` as a JSON
//! value, `toml` as a TOML value, `sh` as one quoted word and makes the file executable, `txt` as it is (text, numbers and booleans only). A name that begins with
//! `_` is only included by others. Templates reach nothing but the context; they stop when their fuel is spent.

mod quote;

pub(crate) use quote::{escape_odd, yaml_document};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value, syntax::SyntaxConfig,
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

/// Instructions one file may take; the samples take some hundreds.
const FUEL: u64 = 500_000;
/// Longest rendered file.
const OUTPUT_MAX: usize = 1 << 20;
const RECURSION_MAX: usize = 30;

/// `Display` is `SET/NAME.KIND.j2:LINE: what is wrong`. Holds no value of the context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{template}:{line}: {message}")]
pub struct RenderError {
    /// Path below the templates folder.
    pub template: String,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    pub message: String,
}

/// All template sets, parsed.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
    /// Set → template names of the files it gives.
    sets: BTreeMap<String, Vec<String>>,
    sources: BTreeMap<String, String>,
}

/// One rendered file. May hold secrets, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    pub name: String,
    pub contents: String,
    /// Unix permission bits.
    pub mode: u32,
    /// The template it came from, for errors.
    pub template: String,
}

impl Rendered {
    /// Whether its template says that it is JSON.
    pub fn is_json(&self) -> bool {
        Kind::of(&self.template) == Some(Kind::Json)
    }
}

impl std::fmt::Debug for Rendered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rendered({} from {}, {} bytes)", self.name, self.template, self.contents.len())
    }
}

impl Templates {
    /// `files` are (`SET/NAME.KIND.j2`, source).
    pub fn new(files: impl IntoIterator<Item = (String, String)>) -> Result<Self, RenderError> {
        let mut environment = environment();
        let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut sources = BTreeMap::new();
        for (name, source) in files {
            let (set, file) = name.split_once('/').unwrap_or(("", &name));
            if set.is_empty() || Kind::of(&name).is_none() {
                return Err(RenderError {
                    template: name,
                    line: 0,
                    message:
                        "a template's name is SET/NAME.KIND.j2, where KIND is yaml, json, toml, sh or txt"
                            .to_owned(),
                });
            }
            let partial = file.starts_with('_');
            let templates = sets.entry(set.to_owned()).or_default();
            if !partial {
                templates.push(name.clone());
            }
            environment
                .add_template_owned(name.clone(), source.clone())
                .map_err(|error| RenderError::from_engine(&name, &source, &error, &[]))?;
            sources.insert(name, source);
        }
        Ok(Self { environment, sets, sources })
    }

    /// The names of the sets, as profiles refer to them.
    pub fn names(&self) -> BTreeSet<String> {
        self.sets.keys().cloned().collect()
    }

    /// Renders every file of a set. `secrets` are values of the context that no error may repeat.
    pub fn render(
        &self,
        set: &str,
        context: &impl Serialize,
        secrets: &[&str],
    ) -> Result<Vec<Rendered>, RenderError> {
        let templates = self.sets.get(set).ok_or_else(|| RenderError {
            template: set.to_owned(),
            line: 0,
            message: format!("there is no template {set}"),
        })?;
        templates.iter().map(|name| self.render_one(name, context, secrets)).collect()
    }

    fn render_one(
        &self,
        name: &str,
        context: &impl Serialize,
        secrets: &[&str],
    ) -> Result<Rendered, RenderError> {
        let engine = |error: Error| {
            // An included template's error names that template.
            let culprit = error.name().unwrap_or(name).to_owned();
            let source = self.sources.get(&culprit).map(String::as_str).unwrap_or_default();
            RenderError::from_engine(&culprit, source, &error, secrets)
        };
        let template = self.environment.get_template(name).map_err(engine)?;
        let mut output = Capped(Vec::new());
        template
            .render_captured_to(minijinja::value::Serde(context), &mut output)
            .map_err(|error| if output.is_full() { too_long(name) } else { engine(error) })?;
        let contents = String::from_utf8(output.0).map_err(|_| too_long(name))?;
        let kind = Kind::of(name).unwrap_or(Kind::Text);
        let file = name.rsplit('/').next().unwrap_or(name);
        let file = file.strip_suffix(kind.suffix()).unwrap_or(file).to_owned();
        Ok(Rendered { name: file, contents, mode: kind.mode(), template: name.to_owned() })
    }
}

fn too_long(name: &str) -> RenderError {
    RenderError {
        template: name.to_owned(),
        line: 0,
        message: format!("renders to more than {OUTPUT_MAX} bytes"),
    }
}

impl RenderError {
    fn from_engine(name: &str, source: &str, error: &Error, secrets: &[&str]) -> Self {
        let expression = error.range().and_then(|range| source.get(range)).map(str::trim);
        let detail = error.detail().unwrap_or_default();
        let before = error.range().and_then(|range| source.get(..range.start)).unwrap_or_default();
        let message = match (error.kind(), expression) {
            // The engine names the filter, not what is missing.
            (ErrorKind::UndefinedError, Some(filter)) if before.trim_end().ends_with('|') => {
                format!("the value before | {filter} is not given")
            }
            (ErrorKind::UndefinedError, Some(expression)) => format!("the value {expression} is not given"),
            (ErrorKind::UndefinedError, None) => "a value is not given".to_owned(),
            (ErrorKind::OutOfFuel, _) => "takes too long: the template's fuel is spent".to_owned(),
            (kind, Some(expression)) if detail.is_empty() => format!("{kind} in {expression}"),
            (_, Some(expression)) => format!("{detail} in {expression}"),
            (kind, None) => format!("{kind}: {detail}"),
        };
        let message =
            secrets.iter().filter(|secret| !secret.is_empty()).fold(message, |m, s| m.replace(s, "…"));
        Self { template: name.to_owned(), line: error.line().unwrap_or_default(), message }
    }
}

/// How values stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Yaml,
    Json,
    Shell,
    Toml,
    Text,
}

impl Kind {
    fn of(template: &str) -> Option<Self> {
        let file = template.rsplit('/').next().unwrap_or(template);
        let kind = [Self::Yaml, Self::Json, Self::Shell, Self::Toml, Self::Text]
            .into_iter()
            .find(|kind| file.ends_with(kind.suffix()))?;
        (file.len() > kind.suffix().len()).then_some(kind)
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Yaml => ".yaml.j2",
            Self::Json => ".json.j2",
            Self::Shell => ".sh.j2",
            Self::Toml => ".toml.j2",
            Self::Text => ".txt.j2",
        }
    }

    /// The files hold secrets: for root only.
    fn mode(self) -> u32 {
        if self == Self::Shell { 0o700 } else { 0o600 }
    }

    fn escape(self) -> AutoEscape {
        match self {
            Self::Yaml => AutoEscape::Custom("yaml".into()),
            Self::Json => AutoEscape::Custom("json".into()),
            Self::Shell => AutoEscape::Custom("sh".into()),
            Self::Toml => AutoEscape::Custom("toml".into()),
            Self::Text => AutoEscape::None,
        }
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_syntax(syntax());
    environment.set_recursion_limit(RECURSION_MAX);
    // Debug errors and debug() would print the whole context, secrets and all.
    environment.set_debug(false);
    environment.remove_global("debug");
    environment.set_auto_escape_callback(|name| Kind::of(name).unwrap_or(Kind::Text).escape());
    environment.set_formatter(write_value);
    // With `safe` a value could become structure again; `escape` is HTML's.
    for filter in ["safe", "escape", "e"] {
        environment.remove_filter(filter);
    }
    environment.add_filter("tojson", |value: Value| quote::json(&value));
    environment.add_filter("toyaml", |state: &State<'_, '_>, value: Value| {
        quoted(state, "yaml", quote::yaml(&value)?)
    });
    environment.add_filter("shquote", |state: &State<'_, '_>, value: Value| {
        quoted(state, "sh", quote::shell(&value)?)
    });
    environment.add_filter("b64encode", |value: Value| quote::base64(&value));
    environment.add_filter("gotemplate", |value: Value| quote::go_template(&value));
    environment.add_filter("cmdline", |value: Value| quote::command_line(&value));
    environment
}

/// Lines that hold only a `{% … %}` leave no empty line, and the last line keeps its end.
fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build()
        .unwrap_or_default()
}

/// Text that is quoted for a `kind` of file: final in such a file, a value like any other elsewhere.
fn quoted(state: &State<'_, '_>, kind: &str, text: String) -> Result<Value, Error> {
    let home = matches!(state.auto_escape(), AutoEscape::Custom(name) if name == kind);
    Ok(if home { Value::from_safe_string(text) } else { Value::from(text) })
}

/// Writes `{{ value }}` the way the file's kind wants it.
fn write_value(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let quoted = match state.auto_escape() {
        _ if value.is_undefined() => return Err(ErrorKind::UndefinedError.into()),
        _ if value.is_safe() => return out.write_str(&value.to_string()).map_err(Error::from),
        AutoEscape::Custom(kind) if kind == "yaml" => quote::yaml(value)?,
        AutoEscape::Custom(kind) if kind == "json" => quote::json(value)?,
        AutoEscape::Custom(kind) if kind == "toml" => quote::toml(value)?,
        AutoEscape::Custom(_) => quote::shell(value)?,
        _ => quote::plain(value)?,
    };
    out.write_str(&quoted).map_err(Error::from)
}

/// Collects output up to [`OUTPUT_MAX`].
struct Capped(Vec<u8>);

impl Capped {
    fn is_full(&self) -> bool {
        self.0.len() > OUTPUT_MAX
    }
}

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        if self.is_full() { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
