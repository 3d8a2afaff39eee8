//! A rendered file read as YAML, with the place of every value, and held against a JSON schema.

use crate::inventory::{Located, Problem, strict, yaml_problem};
use jsonschema::{Validator, error::ValidationErrorKind};
use provisioner_wire::order::{Config, ConfigFile};
use serde_json::Value;
use std::path::Path;

/// `around` is the pointer of `value` in the file.
pub(super) fn check_schema(
    schema: &Result<Validator, String>,
    file: &ConfigFile,
    value: &Value,
    places: &Located,
    around: &str,
    problems: &mut Vec<Problem>,
) {
    check_schema_at(
        schema,
        file,
        value,
        |pointer| places.find(&format!("{around}{pointer}")),
        around,
        problems,
    );
}

/// The same where `place` tells line and column of what stands at a pointer in `value`.
pub(super) fn check_schema_at(
    schema: &Result<Validator, String>,
    file: &ConfigFile,
    value: &Value,
    place: impl Fn(&str) -> (u64, u64),
    around: &str,
    problems: &mut Vec<Problem>,
) {
    let validator = match schema {
        Ok(validator) => validator,
        Err(error) => {
            problems.push(Problem::new(&*file.name, format!("the built-in schema cannot be used: {error}")));
            return;
        }
    };
    for error in validator.iter_errors(value).take(20) {
        let mut pointer = error.instance_path().to_string();
        // Masked, because the value may be a secret.
        let mut message = error.masked().to_string();
        let key = format!("{around}{pointer}").trim_start_matches('/').replace('/', ".");
        if !key.is_empty() {
            message = format!("{key}: {message}");
        }
        if let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind()
            && let Some(first) = unexpected.first()
        {
            pointer = format!("{pointer}/{first}");
        }
        let (line, column) = place(&pointer);
        problems.push(Problem::new(format!("{}:{line}:{column}", file.name), message));
    }
}

pub(super) fn at(file: &ConfigFile, places: &Located, pointer: &str, message: impl Into<String>) -> Problem {
    let (line, column) = places.find(pointer);
    Problem::new(format!("{}:{line}:{column}", file.name), message)
}

/// Every file that `is_json` says is JSON: what is none, and a name that an object has twice, is a problem at its place.
pub(super) fn check_json(config: &Config, is_json: impl Fn(&ConfigFile) -> bool) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    for file in config.files.iter().filter(|file| is_json(file)) {
        match serde_json::from_str::<serde::de::IgnoredAny>(&file.contents) {
            Ok(_) => {
                // serde_json takes the last of two equal names; the reader of YAML refuses both.
                let read: Result<Value, _> = serde_saphyr::from_str_with_options(&file.contents, strict());
                problems.extend(read.err().map(|error| yaml_problem(Path::new(&file.name), &error)));
            }
            Err(error) => problems.push(not_json(file, &error)),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// The reader's message names kinds of tokens, not values; its place is the problem's.
pub(super) fn not_json(file: &ConfigFile, error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    let message = error.to_string();
    let message = message.trim_end_matches(&format!(" at line {line} column {column}"));
    // At the end of a file the reader has column 0.
    Problem::new(format!("{}:{line}:{}", file.name, column.max(1)), format!("not JSON: {message}"))
}

/// The file as one YAML mapping, or a problem.
pub(super) fn parse(file: &ConfigFile, problems: &mut Vec<Problem>) -> Option<(Value, Located)> {
    parse_with(strict, file, problems)
}

/// The same with `0644` as an octal number, as Butane reads it.
pub(super) fn parse_octal(file: &ConfigFile, problems: &mut Vec<Problem>) -> Option<(Value, Located)> {
    let options = || {
        let mut options = strict();
        options.legacy_octal_numbers = true;
        options
    };
    parse_with(options, file, problems)
}

fn parse_with(
    options: impl Fn() -> serde_saphyr::Options,
    file: &ConfigFile,
    problems: &mut Vec<Problem>,
) -> Option<(Value, Located)> {
    let read = || -> Result<(Value, Located), serde_saphyr::Error> {
        Ok((
            serde_saphyr::from_str_with_options(&file.contents, options())?,
            serde_saphyr::from_str_with_options(&file.contents, options())?,
        ))
    };
    match read() {
        Ok((value @ Value::Object(_), places)) => Some((value, places)),
        Ok(_) => {
            problems.push(Problem::new(format!("{}:1:1", file.name), "not a YAML mapping"));
            None
        }
        Err(error) => {
            problems.push(yaml_problem(Path::new(&file.name), &error));
            None
        }
    }
}

/// Every document of a file, each one mapping, or a problem. Empty documents are left out.
pub(super) fn parse_all(file: &ConfigFile, problems: &mut Vec<Problem>) -> Vec<(Value, Located)> {
    let read = || -> Result<Vec<(Value, Located)>, serde_saphyr::Error> {
        let values: Vec<Value> = serde_saphyr::from_multiple_with_options(&file.contents, strict())?;
        let places: Vec<Located> = serde_saphyr::from_multiple_with_options(&file.contents, strict())?;
        Ok(values.into_iter().zip(places).collect())
    };
    let mut documents = match read() {
        Ok(documents) => documents,
        Err(error) => {
            problems.push(yaml_problem(Path::new(&file.name), &error));
            return Vec::new();
        }
    };
    documents.retain(|(value, _)| !value.is_null());
    for (_, places) in documents.iter().filter(|(value, _)| !value.is_object()) {
        problems.push(at(file, places, "", "not a YAML mapping"));
    }
    documents.retain(|(value, _)| value.is_object());
    documents
}
