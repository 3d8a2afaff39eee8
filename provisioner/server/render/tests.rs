//! What templates may do, and what their errors say.

use super::*;
use serde_json::json;

fn render(kind: &str, source: &str, context: serde_json::Value) -> Result<String, String> {
    let templates =
        Templates::new([(format!("set/file.{kind}.j2"), source.to_owned())]).map_err(|e| e.to_string())?;
    let files = templates.render("set", &context, &["hunter2"]).map_err(|e| e.to_string())?;
    Ok(files[0].contents.clone())
}

#[test]
fn a_missing_value_is_an_error_with_its_place_and_name() {
    let error = render("yaml", "a: 1\nb: {{ values.key }}\n", json!({"values": {}})).unwrap_err();
    assert_eq!(error, "set/file.yaml.j2:2: the value values.key is not given");
    let error = render("sh", "{% if nothing %}x{% endif %}", json!({})).unwrap_err();
    assert!(error.starts_with("set/file.sh.j2:1: ") && error.contains("not given"), "{error}");
    assert_eq!(render("yaml", "{{ x | default('d') }}", json!({})).unwrap(), "\"d\"");
}

#[test]
fn values_stand_as_the_kind_of_file_wants() {
    let context = json!({"text": "a: 'b'\n- c", "list": [1, "x"], "none": null});
    assert_eq!(render("yaml", "{{ text }} {{ list }} {{ none }}", context.clone()).unwrap(), {
        r#""a: 'b'\n- c" [1,"x"] null"#
    });
    assert_eq!(render("sh", "echo {{ text }}", context.clone()).unwrap(), "echo 'a: '\\''b'\\''\n- c'");
    assert_eq!(render("txt", "{{ text|b64encode }}", context.clone()).unwrap(), "YTogJ2InCi0gYw==");
    for (kind, source) in [("txt", "{{ list }}"), ("sh", "{{ none }}"), ("sh", "{{ list }}")] {
        let error = render(kind, source, context.clone()).unwrap_err();
        assert!(error.contains("has no text"), "{error}");
    }
}

#[test]
fn json_is_a_kind_and_numbers_are_numbers_everywhere() {
    let context = json!({"text": "a\"\u{2028}", "big": 1e21, "above": u64::MAX});
    assert_eq!(render("json", r#"{"a": {{ text }}}"#, context.clone()).unwrap(), r#"{"a": "a\"\u2028"}"#);
    assert_eq!(render("yaml", "{{ big }}", context.clone()).unwrap(), "1.0e+21");
    assert_eq!(render("yaml", "{{ above }}", context.clone()).unwrap(), "18446744073709551615");
    let error = render("toml", "a = {{ above }}", context).unwrap_err();
    assert!(error.contains("no whole number above"), "{error}");
}

#[test]
fn a_command_line_is_made_of_words_and_gos_templates_stay_text() {
    let line = |arguments: serde_json::Value| {
        render("txt", "{{ x | cmdline }}", json!({ "x": arguments }))
            .map_err(|error| error.replace('\n', " "))
    };
    assert_eq!(line(json!(["console=ttyS0,115200", "quiet"])).unwrap(), "console=ttyS0,115200 quiet");
    assert_eq!(line(json!([])).unwrap(), "");
    for bad in [
        json!(["a b"]),
        json!(["a\nb"]),
        json!([""]),
        json!(["${x}"]),
        json!("a"),
        json!([[]]),
        json!({"a": 1}),
    ] {
        let error = line(bad.clone()).unwrap_err();
        assert!(error.starts_with("set/file.txt.j2:1: "), "{bad}: {error}");
    }
    let text = render("txt", "{{ x | gotemplate }}", json!({"x": "{{{ .Values }}"})).unwrap();
    assert_eq!(text, r#"{{"{{"}}{ .Values }}"#);
}

#[test]
fn templates_reach_nothing_and_do_not_run_for_ever() {
    for source in [
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}",
        "{% include '/etc/passwd' %}",
        "{% include '../../Cargo.toml' %}",
        "{{ debug() }}",
        "{{ 'x' * 100000000 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ token | int }}",
        "{{ token + 1 }}",
        "{{ token.x.y }}",
    ] {
        let error = render("yaml", source, json!({"token": "hunter2"})).unwrap_err();
        assert!(error.starts_with("set/file.yaml.j2:") && !error.contains("hunter2"), "{source}: {error}");
    }
}

#[test]
fn a_wrong_name_or_a_syntax_error_is_found_when_read() {
    let read = |name: &str, source: &str| Templates::new([(name.to_owned(), source.to_owned())]).map(|_| ());
    for name in ["set/user-data.j2", "user-data.yaml.j2", "set/.yaml.j2"] {
        let error = read(name, "").unwrap_err().to_string();
        assert!(error.contains("a template's name is"), "{error}");
    }
    let error = read("set/a.txt.j2", "x\n{% if %}").unwrap_err().to_string();
    assert!(error.starts_with("set/a.txt.j2:2: "), "{error}");
}
