//! Answers for people: columns as wide as their widest cell.

use provisioner_wire::report::clean;
use serde_json::Value;

/// Prints rows under their headings.
pub fn print(headings: &[&str], rows: &[Vec<String>]) {
    print!("{}", table(headings, rows));
}

fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(headings.get(column).map(|h| h.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let head = line(headings.to_vec());
    rows.iter().fold(head, |text, row| text + &line(row.iter().map(String::as_str).collect()))
}

/// The value at a dotted path, as one cell; what firmware or an operator wrote cannot steer the terminal.
pub fn cell(value: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(value, |at, key| at.get(key));
    match found {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => clean(text),
        Some(Value::Array(list)) => {
            let cells: Vec<String> = list.iter().map(cell_of).collect();
            if cells.is_empty() { "-".to_owned() } else { cells.join(",") }
        }
        Some(other) => clean(&other.to_string()),
    }
}

fn cell_of(value: &Value) -> String {
    value.as_str().map_or_else(|| clean(&value.to_string()), clean)
}

/// `2026-11-22T23:41:05Z` of epoch milliseconds.
pub fn time(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) / 1000);
    // Howard Hinnant's civil_from_days, with March as the first month.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_and_times_are_right() {
        let rows = [vec!["node-1".to_owned(), "ready".to_owned()], vec!["n".to_owned(), "-".to_owned()]];
        assert_eq!(table(&["NAME", "PHASE"], &rows), "NAME    PHASE\nnode-1  ready\nn       -\n");
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(951_827_696_000), "2000-02-29T12:34:56Z");
        assert_eq!(time(1_795_390_865_123), "2026-11-22T23:41:05Z");
        let value = serde_json::json!({"a": {"b": "x\u{1b}[2J"}, "m": ["1", "2"], "e": []});
        assert_eq!(cell(&value, "a.b"), "x[2J");
        assert_eq!(cell(&value, "m"), "1,2");
        assert_eq!(cell(&value, "e"), "-");
        assert_eq!(cell(&value, "none.b"), "-");
    }
}
