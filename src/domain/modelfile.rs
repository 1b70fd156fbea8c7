//! Ollama's Modelfile, read as Ollama reads it.
//!
//! Source of the rules: Ollama's `parser/parser.go`. A line is a command and its value. A value that begins with a
//! quote goes on, over lines, to the line that ends with the same quotes (`"` or `"""`).

use std::fmt;

/// What a Modelfile asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modelfile {
    /// Each `FROM`: files of weights, or the name of a model. At least one.
    pub from: Vec<String>,
    /// Each `ADAPTER`: files.
    pub adapters: Vec<String>,
    /// Each `PARAMETER` with its value, in order; `stop` may come several times.
    pub parameters: Vec<(String, String)>,
    /// The last `TEMPLATE`.
    pub template: Option<String>,
    /// The last `SYSTEM`.
    pub system: Option<String>,
    /// Each `LICENSE`.
    pub licenses: Vec<String>,
    /// Each `MESSAGE`.
    pub messages: Vec<Message>,
    /// The last `RENDERER`.
    pub renderer: Option<String>,
    /// The last `PARSER`.
    pub parser: Option<String>,
    /// The last `REQUIRES`: the oldest Ollama that can run it, without a `v` before it.
    pub requires: Option<String>,
}

/// One message of the conversation that every chat begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// What is wrong with a Modelfile, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1 on.
    pub line: usize,
    /// For people.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

const COMMANDS: &str = "FROM, ADAPTER, PARAMETER, TEMPLATE, SYSTEM, MESSAGE, LICENSE, RENDERER, PARSER or REQUIRES";
const ROLES: [&str; 3] = ["system", "user", "assistant"];

/// The text of a file: UTF-8, or UTF-16 that says so by its first two bytes.
///
/// # Errors
/// When it is neither.
pub fn decode(bytes: &[u8]) -> Result<String, String> {
    let utf16 = |unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().skip(1).map(|pair| unit(*pair)).collect();
        String::from_utf16(&units).ok().filter(|_| rest.is_empty())
    };
    let text = match bytes {
        [0xff, 0xfe, ..] => utf16(u16::from_le_bytes),
        [0xfe, 0xff, ..] => utf16(u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, text @ ..] => str::from_utf8(text).ok().map(str::to_owned),
        text => str::from_utf8(text).ok().map(str::to_owned),
    };
    text.ok_or_else(|| "it is not text in UTF-8".into())
}

impl Modelfile {
    /// Reads a Modelfile.
    ///
    /// # Errors
    /// The first fault, with its line.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut lines = Lines { rest: text, line: 1 };
        let mut modelfile = Self::default();
        while let Some(start) = lines.next_command() {
            let line = lines.line;
            let fault = |what: String| Fault { line, what };
            let word = lines.take_while(|c| c.is_ascii_alphabetic());
            if word.is_empty() || !lines.skip_blank() {
                return Err(fault(format!("{start:?} is no command with a value: write {COMMANDS}")));
            }
            modelfile.read(&word.to_ascii_uppercase(), &mut lines).map_err(fault)?;
        }
        match modelfile.from.is_empty() {
            true => Err(Fault { line: lines.line, what: "there is no FROM line: name a GGUF file or a model".into() }),
            false => Ok(modelfile),
        }
    }

    fn read(&mut self, command: &str, lines: &mut Lines<'_>) -> Result<(), String> {
        match command {
            "FROM" => self.from.push(lines.value()?),
            "ADAPTER" => self.adapters.push(lines.value()?),
            "TEMPLATE" => self.template = Some(lines.value()?),
            "SYSTEM" => self.system = Some(lines.value()?),
            "LICENSE" => self.licenses.push(lines.value()?),
            "RENDERER" => self.renderer = Some(lines.value()?),
            "PARSER" => self.parser = Some(lines.value()?),
            "REQUIRES" => self.requires = Some(requires(&lines.value()?)?),
            "PARAMETER" => {
                let name = lines.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
                if name.is_empty() || !lines.skip_blank() {
                    return Err("write PARAMETER, a name and a value with one space between".into());
                }
                self.parameters.push((name.to_owned(), lines.value()?));
            }
            "MESSAGE" => {
                let role = lines.take_while(|c| c.is_ascii_alphabetic());
                if !ROLES.contains(&role) || !lines.skip_blank() {
                    return Err("write MESSAGE, then system, user or assistant, then what is said".into());
                }
                self.messages.push(Message { role: role.to_owned(), content: lines.value()? });
            }
            _ => return Err(format!("{command} is no command: write {COMMANDS}")),
        }
        Ok(())
    }
}

fn requires(version: &str) -> Result<String, String> {
    let version = version.strip_prefix('v').unwrap_or(version);
    // As there, `0.14` is `0.14.0`.
    let dots = version.matches('.').count();
    let full =
        if version.contains(['-', '+']) { version.into() } else { version.to_owned() + &".0".repeat(2 - dots.min(2)) };
    match semver::Version::parse(&full) {
        Ok(_) => Ok(version.into()),
        Err(_) => Err(format!("REQUIRES {version}: write the oldest version of Ollama that will do, such as 0.14.0")),
    }
}

/// The text from the place that was reached.
struct Lines<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lines<'a> {
    /// Goes to the next command, over blanks and comments; its first letters, for messages.
    fn next_command(&mut self) -> Option<String> {
        loop {
            match self.rest.chars().next()? {
                '#' => _ = self.take_while(|c| !is_newline(c)),
                c if is_newline(c) || is_blank(c) => self.step(c),
                _ => return Some(self.rest.chars().take_while(|c| !c.is_whitespace()).take(20).collect()),
            }
        }
    }

    fn step(&mut self, c: char) {
        self.rest = &self.rest[c.len_utf8()..];
        // The two characters of a Windows line end are one end.
        self.line += usize::from(c == '\n' || (c == '\r' && !self.rest.starts_with('\n')));
    }

    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn skip_blank(&mut self) -> bool {
        match self.rest.chars().next() {
            Some(c) if is_blank(c) => {
                self.step(c);
                true
            }
            _ => false,
        }
    }

    /// The value that begins here: to the end of the line, or to the line where its quotes close.
    fn value(&mut self) -> Result<String, String> {
        let mut taken = String::new();
        loop {
            let Some(c) = self.rest.chars().next() else {
                let open = || "the quotes that open here are never closed".to_owned();
                return unquote(taken.trim()).map(str::to_owned).ok_or_else(open);
            };
            if is_newline(c)
                && let Some(value) = unquote(taken.trim())
            {
                return Ok(value.to_owned());
            }
            self.step(c);
            if is_newline(c) || is_blank(c) || is_printed(c) {
                taken.push(c);
            }
        }
    }
}

fn is_newline(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// Whether Ollama keeps the character in a value: letters, marks, numbers, punctuation and symbols.
fn is_printed(c: char) -> bool {
    match c {
        '\\' | '"' | '\'' => true,
        c if c.is_ascii() => c.is_ascii_graphic(),
        // Behind another character, marks are not escaped.
        c => format!("a{c}").escape_debug().count() == 2,
    }
}

/// The value without its quotes; none while they are open.
fn unquote(text: &str) -> Option<&str> {
    if let Some(inner) = text.strip_prefix("\"\"\"") {
        return inner.strip_suffix("\"\"\"");
    }
    match text.strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"'),
        None => Some(text),
    }
}

/// A value as it is written: in quotes where it would be read as another one without.
fn quote(value: &str) -> String {
    let bare = !value.contains(is_newline) && value.trim() == value && !value.starts_with('"') && !value.is_empty();
    if bare { value.into() } else { format!("\"\"\"{value}\"\"\"") }
}

impl fmt::Display for Modelfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = [("FROM", &self.from), ("ADAPTER", &self.adapters), ("LICENSE", &self.licenses)];
        let one = [
            ("TEMPLATE", &self.template),
            ("SYSTEM", &self.system),
            ("RENDERER", &self.renderer),
            ("PARSER", &self.parser),
            ("REQUIRES", &self.requires),
        ];
        let many = many.into_iter().flat_map(|(command, values)| values.iter().map(move |value| (command, value)));
        let one = one.into_iter().filter_map(|(command, value)| Some((command, value.as_ref()?)));
        for (command, value) in many.chain(one) {
            writeln!(f, "{command} {}", quote(value))?;
        }
        for (name, value) in &self.parameters {
            writeln!(f, "PARAMETER {name} {}", quote(value))?;
        }
        self.messages.iter().try_for_each(|Message { role, content }| writeln!(f, "MESSAGE {role} {}", quote(content)))
    }
}
