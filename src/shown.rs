//! What may be shown to people, and in which form: in errors, logs and the lines of the operator's tool.
//!
//! Texts from elsewhere (names, file names, values, what a server said) reach terminals and log files. A line feed in one
//! forges a line, an escape sequence clears a screen, a bidirectional mark turns the words around it. [`Line`], [`Name`]
//! and [`Json`] write such characters as escapes. And some texts hold a contact's data or a secret: [`without_values`]
//! leaves those out of what a parser says.

use std::fmt::{self, Display, Write};

/// Anything, on one line: every character that does not print as itself is escaped as in a Rust literal.
#[derive(Clone, Copy, Debug)]
pub struct Line<T>(
    /// What is shown.
    pub T,
);

impl<T: Display> Display for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping { out: f, escape: as_in_rust }, "{}", self.0)
    }
}

/// A name: as it is, or quoted and escaped where it could pass for something else on a line.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a>(
    /// The name.
    pub &'a str,
);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0;
        if name.is_empty() || name.starts_with('"') || !name.chars().all(prints) {
            write!(f, "{name:?}")
        } else {
            f.write_str(name)
        }
    }
}

/// A text in JSON, on one line or on several: the same value, in characters that print.
#[derive(Clone, Copy, Debug)]
pub struct Json<'a>(
    /// The text. Outside of its strings JSON is plain.
    pub &'a str,
);

impl Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaping { out: f, escape: as_in_json }.write_str(self.0)
    }
}

/// What `serde` says of a value that it does not take, without the value: `invalid type: string "Ada", expected a map`
/// becomes `invalid type: string, expected a map`.
pub fn without_values(said: &str) -> String {
    for start in ["invalid type: ", "invalid value: ", "unknown variant "] {
        // The value is quoted, so the last of these is serde's own.
        let Some((before, after)) = said.split_once(start) else { continue };
        let Some(end) = after.rfind(", expected ") else { continue };
        let kind = match start {
            "unknown variant " => "",
            _ => after[..end].split(['"', '`']).next().unwrap_or_default().trim_end(),
        };
        return format!("{before}{}{}", format!("{start}{kind}").trim_end(), &after[end..]);
    }
    said.to_owned()
}

/// Passes text on with what does not print escaped.
struct Escaping<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    escape: fn(&mut fmt::Formatter<'_>, char) -> fmt::Result,
}

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c| !prints(c)) {
            let (plain, others) = rest.split_at(at);
            self.out.write_str(plain)?;
            let mut others = others.chars();
            if let Some(c) = others.next() {
                (self.escape)(self.out, c)?;
            }
            rest = others.as_str();
        }
        self.out.write_str(rest)
    }
}

fn as_in_rust(out: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    Display::fmt(&c.escape_debug(), out)
}

/// Line feeds are the text's own: within a string JSON escapes them.
fn as_in_json(out: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    if c == '\n' {
        return out.write_char(c);
    }
    c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))
}

/// Whether a character shows as itself and leaves its neighbours alone. Not so: controls (C1 too: U+009B begins an escape
/// sequence), bidirectional and other format marks, separators other than the space, unassigned code points.
fn prints(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    // The standard library's own judgement of a character that is not the first: a mark that combines with a letter prints.
    let mut text = [b'a'; 5];
    let length = 1 + c.encode_utf8(&mut text[1..]).len();
    std::str::from_utf8(&text[..length]).is_ok_and(|text| text.escape_debug().count() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that would change a terminal or a log: what they do, and how they are shown.
    const HOSTILE: [(&str, &str); 8] = [
        ("a\nb", r"a\nb"),
        ("\u{1b}[2Jgone", r"\u{1b}[2Jgone"),
        ("\u{9b}31mred", r"\u{9b}31mred"),
        ("\u{202e}gnp.exe", r"\u{202e}gnp.exe"),
        ("\u{2066}x\u{2069}", r"\u{2066}x\u{2069}"),
        ("\r\u{8}\u{7f}\0", r"\r\u{8}\u{7f}\0"),
        ("\u{2028}\u{85}\u{feff}", r"\u{2028}\u{85}\u{feff}"),
        ("\u{e0041}\u{ad}", r"\u{e0041}\u{ad}"),
    ];

    #[test]
    fn what_does_not_print_is_escaped_and_what_prints_is_not() {
        for (text, shown) in HOSTILE {
            assert_eq!(Line(text).to_string(), shown);
            assert_eq!(Line(Line(text)).to_string(), shown, "once is enough");
            assert_eq!(Name(text).to_string(), format!("\"{shown}\""));
        }
        for text in ["u1", "Ünï cödé", "e\u{301}", "日本", "🦀", r"C:\temp 'x' `y`"] {
            assert_eq!((Line(text).to_string(), Name(text).to_string()), (text.to_owned(), text.to_owned()));
        }
        assert_eq!([Name("").to_string(), Name("\"u1\"").to_string()], [r#""""#, r#""\"u1\"""#]);
    }

    #[test]
    fn json_is_shown_as_the_same_value_in_characters_that_print() {
        for (text, _) in HOSTILE {
            let json = serde_json::to_string_pretty(&[text, "🦀"]).unwrap();
            let shown = Json(&json).to_string();
            assert!(shown.lines().all(|line| line.chars().all(prints)), "{shown}");
            assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [text, "🦀"]);
        }
    }

    #[test]
    fn what_serde_says_loses_the_value_and_keeps_the_rest() {
        for (said, shown) in [
            (r#"invalid type: string "Ada, expected \"x\"", expected a map"#, "invalid type: string, expected a map"),
            (
                "invalid type: integer `7`, expected a string at line 1 column 2",
                "invalid type: integer, expected a string at line 1 column 2",
            ),
            (
                "invalid type: map, expected f64 for key `a` in x.toml",
                "invalid type: map, expected f64 for key `a` in x.toml",
            ),
            (r#"invalid value: string "hunter2", expected a duration"#, "invalid value: string, expected a duration"),
            ("unknown variant `hunter2`, expected `a` or `b`", "unknown variant, expected `a` or `b`"),
            ("missing field `uid`", "missing field `uid`"),
        ] {
            assert_eq!(without_values(said), shown);
        }
    }
}
