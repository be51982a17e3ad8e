//! Numbers in prose: a phone field holds what somebody typed, with remarks, second numbers, extensions and characters
//! that nobody sees.
//!
//! [`fold`] makes all kinds of digits, spaces and dashes one, [`pieces`] finds the runs of digits that belong together.
//! What pieces mean together is for `stored`.

use std::borrow::Cow;

use super::Extension;

/// A run of digits that belong to one number, as far as their separators tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// What stood between this piece and the one before it.
    pub(super) gap: Gap,
    /// A `+` stood before the digits.
    pub(super) plus: bool,
    /// ASCII digits, never empty.
    pub(super) digits: String,
    /// The extension named behind it.
    pub(super) extension: Option<Extension>,
}

/// What stands between two pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// The beginning of the text, or words: a remark ends the number before it.
    Words,
    /// Punctuation such as `/` and `,`, which separates numbers, but also area codes.
    Punctuation,
}

/// The text with ASCII digits, spaces and dashes in place of their many kinds, and without characters that are invisible.
pub(super) fn fold(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii() && !matches!(byte, b'_' | b'\'' | b'&' | b'\t');
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut folded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = entity(rest) {
            folded.push(' ');
            rest = after;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        folded.extend(folded_char(c));
    }
    Cow::Owned(folded)
}

/// What follows an entity of HTML at the beginning of `text`; those that stand in phone fields are spaces.
fn entity(text: &str) -> Option<&str> {
    const LONGEST: usize = 8;
    let (name, after) = text.strip_prefix('&')?.split_once(';')?;
    let named = |c: char| c.is_ascii_alphanumeric() || c == '#';
    (!name.is_empty() && name.len() <= LONGEST && name.chars().all(named)).then_some(after)
}

fn folded_char(c: char) -> Option<char> {
    match c {
        '_' | '\'' | '\u{2019}' | '\t' => Some(' '),
        '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some('\n'),
        _ if is_invisible(c) => None,
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' | '\u{30fc}' => Some('-'),
        // Full-width forms of ASCII.
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0),
        _ if c.is_ascii() => Some(c),
        _ if c.is_whitespace() => Some(' '),
        _ => Some(digit(c).unwrap_or(c)),
    }
}

/// Marks of direction and joining, and others that print nothing.
fn is_invisible(c: char) -> bool {
    let marks = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
    marks || matches!(c, '\u{2060}'..='\u{2069}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

/// The ASCII digit of a decimal digit of another script. Unicode keeps the ten of a script together.
fn digit(c: char) -> Option<char> {
    const ZEROS: [u32; 20] = [
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50, 0xed0, 0xf20,
        0x1040, 0x17e0, 0x1810, 0x1d7ce, 0x1d7f6,
    ];
    let value = ZEROS.iter().map(|zero| u32::from(c).wrapping_sub(*zero)).find(|value| *value < 10)?;
    char::from_digit(value, 10)
}

/// Words that announce an extension, in lower case.
const EXTENSION: [&str; 14] = [
    "x",
    "ext",
    "extn",
    "extension",
    "xtn",
    "int",
    "interno",
    "anexo",
    "ramal",
    "poste",
    "dw",
    "durchwahl",
    "доб",
    "wew",
];

/// What makes "2nd" of a 2.
const ORDINALS: [&str; 4] = ["st", "nd", "rd", "th"];

/// The pieces of a folded text, in its order.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let mut scan = Scan::default();
    for token in Tokens(text) {
        match token {
            Token::Digits(digits) => scan.digits(digits),
            Token::Letters(letters) => scan.letters(letters),
            Token::Mark(mark) => scan.mark(mark),
        }
    }
    scan.close(Gap::Words);
    scan.spell();
    scan.pieces
}

#[derive(Default)]
struct Scan {
    pieces: Vec<Piece>,
    open: Option<Piece>,
    /// A number with letters of the keypad in it, from its first digit on.
    spelt: Option<Piece>,
    gap: Option<Gap>,
    plus: bool,
    /// An extension is announced, for the last piece.
    announced: bool,
    /// A parenthesis has words in it, so its end is the end of a remark.
    remark: bool,
    /// Digits since the last mark.
    run: usize,
    /// The last mark, if nothing came after it.
    last: Option<char>,
}

impl Scan {
    fn digits(&mut self, digits: &str) {
        if std::mem::take(&mut self.announced) && digits.len() <= 15 {
            if let (Some(piece), Ok(extension)) = (self.pieces.last_mut(), Extension::parse(digits)) {
                piece.extension = Some(extension);
            }
            self.gap = Some(Gap::Words);
            return;
        }
        if let Some(spelt) = &mut self.spelt {
            spelt.digits.push_str(digits);
        }
        self.run = digits.len();
        if let Some(open) = &mut self.open {
            open.digits.push_str(digits);
        } else {
            let gap = self.gap.unwrap_or(Gap::Words);
            let plus = std::mem::take(&mut self.plus);
            self.open = Some(Piece { gap, plus, digits: digits.to_owned(), extension: None });
        }
        (self.gap, self.last) = (None, None);
    }

    fn letters(&mut self, letters: &str) {
        let word = letters.to_lowercase();
        if EXTENSION.contains(&word.as_str()) && (self.open.is_some() || !self.pieces.is_empty()) {
            self.close(Gap::Words);
            self.announced = true;
            return;
        }
        if ORDINALS.contains(&word.as_str()) && self.last.is_none() {
            self.forget_run();
        } else {
            self.remember_spelt(letters);
        }
        self.close(Gap::Words);
        (self.remark, self.announced, self.plus) = (true, false, false);
    }

    fn mark(&mut self, mark: char) {
        let before = self.last.replace(mark);
        match mark {
            '+' => {
                self.close(Gap::Punctuation);
                self.plus = true;
            }
            '(' => self.remark = false,
            ')' if self.remark => self.close(Gap::Words),
            ' ' | '-' | '.' | ')' | '[' | ']' | '~' => {}
            '=' | ':' if self.announced => {}
            '#' if self.open.is_some() => {
                self.close(Gap::Words);
                self.announced = true;
            }
            ',' if before == Some(',') && !self.pieces.is_empty() => self.announced = true,
            _ => {
                self.announced &= mark == ',';
                self.spell();
                self.close(if matches!(mark, ':' | '@' | '=') { Gap::Words } else { Gap::Punctuation });
                self.plus = false;
            }
        }
    }

    /// The last digits belong to the word behind them.
    fn forget_run(&mut self) {
        if let Some(open) = &mut self.open {
            open.digits.truncate(open.digits.len() - self.run);
        }
        self.open.take_if(|open| open.digits.is_empty());
    }

    /// Ends the open piece; a remark weighs more than punctuation beside it.
    fn close(&mut self, gap: Gap) {
        let open = self.open.take();
        let words = gap == Gap::Words
            || (open.is_none() && self.gap == Some(Gap::Words))
            || (open.is_none() && self.pieces.is_empty());
        self.gap = Some(if words { Gap::Words } else { Gap::Punctuation });
        self.pieces.extend(open);
    }

    /// "1-800-FLOWERS": letters of the keypad that go on where the digits of a number stop too soon.
    fn remember_spelt(&mut self, letters: &str) {
        const SHORT: usize = 8;
        let keys = letters.chars().map(key).collect::<Option<String>>();
        // Behind a space they are a remark, unless they shout.
        let shouted = letters.len() > 1 && letters.bytes().all(|byte| byte.is_ascii_uppercase());
        let begun = self.spelt.take().or_else(|| self.open.clone().filter(|open| open.digits.len() < SHORT));
        if let (Some(mut spelt), Some(keys)) =
            (begun, keys.filter(|_| shouted || matches!(self.last, None | Some('-'))))
        {
            spelt.digits.push_str(&keys);
            self.spelt = Some(spelt);
        }
    }

    fn spell(&mut self) {
        let Some(mut spelt) = self.spelt.take().filter(|spelt| spelt.digits.len() > 6) else { return };
        // North American words may be longer than the number.
        match spelt.digits.as_bytes()[0] {
            b'0' => {}
            b'1' => spelt.digits.truncate(11),
            _ if !spelt.plus => spelt.digits.truncate(10),
            _ => {}
        }
        self.pieces.push(Piece { gap: Gap::Words, ..spelt });
    }
}

/// The key of a telephone that has this letter (ITU-T E.161).
fn key(letter: char) -> Option<char> {
    Some(match letter.to_ascii_lowercase() {
        'a'..='c' => '2',
        'd'..='f' => '3',
        'g'..='i' => '4',
        'j'..='l' => '5',
        'm'..='o' => '6',
        'p'..='s' => '7',
        't'..='v' => '8',
        'w'..='z' => '9',
        _ => return None,
    })
}

enum Token<'a> {
    Digits(&'a str),
    Letters(&'a str),
    Mark(char),
}

struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let first = self.0.chars().next()?;
        let kind: fn(char) -> bool = match first {
            '0'..='9' => |c| c.is_ascii_digit(),
            _ if first.is_alphabetic() => char::is_alphabetic,
            _ => {
                self.0 = &self.0[first.len_utf8()..];
                return Some(Token::Mark(first));
            }
        };
        let end = self.0.find(|c| !kind(c)).unwrap_or(self.0.len());
        let (run, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(if first.is_ascii_digit() { Token::Digits(run) } else { Token::Letters(run) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces as `gap+digits x extension`: `/` for punctuation, nothing for words.
    fn shown(text: &str) -> String {
        let piece = |piece: Piece| {
            let gap = if piece.gap == Gap::Punctuation { "/" } else { "" };
            let plus = if piece.plus { "+" } else { "" };
            let extension = piece.extension.map(|extension| format!("x{extension}")).unwrap_or_default();
            format!("{gap}{plus}{}{extension}", piece.digits)
        };
        pieces(&fold(text)).into_iter().map(piece).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_belongs_together_is_one_piece() {
        for (text, expected) in [
            ("(650) 555-1234", "6505551234"),
            ("+1.650.555.1234", "+16505551234"),
            ("+41'79'123'45'67", "+41791234567"),
            ("+1_415_555_0123", "+14155550123"),
            ("01\u{202f}42\u{2009}68\u{a0}53\u{3000}00", "0142685300"),
            ("01&nbsp;42&#160;68&#xa0;53&thinsp;00", "0142685300"),
            ("+1 415\u{200e} 555\u{2066} 01\u{200b}23\u{ad}", "+14155550123"),
            ("\u{ff0b}\u{ff11} \u{ff14}\u{ff11}\u{ff15}", "+1415"),
            ("\u{660}\u{665}\u{660} \u{966}", "0500"),
            ("415\u{2013}555\u{2011}0123", "4155550123"),
            ("tel:+1-650-555-1234", "+16505551234"),
            ("Tel.: +49 30 5551234", "+49305551234"),
            ("030/5551234", "030 /5551234"),
            ("415-555-0123 (mobile)", "4155550123"),
            ("0171 2345678 privat (seit 2019) 030 1", "01712345678 2019 0301"),
            ("415-555-0123 or 415-555-0124", "4155550123 4155550124"),
            ("+1 415 555 0123 +1 415 555 0124", "+14155550123 /+14155550124"),
            ("415 555 0123, 415 555 0124 ; 1|2", "4155550123 /4155550124 /1 /2"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn extensions_belong_to_the_number_before_them() {
        for (text, expected) in [
            ("650-555-1234 x42", "6505551234x42"),
            ("650-555-1234x42", "6505551234x42"),
            ("650 555 1234 ext. 042", "6505551234x042"),
            ("650 555 1234 (Ext: 42)", "6505551234x42"),
            ("+16505551234;ext=42", "+16505551234x42"),
            ("650 555 1234 #42", "6505551234x42"),
            ("650 555 1234,,42", "6505551234x42"),
            ("650 555 1234 x42 / 650 555 1235 x43", "6505551234x42 6505551235x43"),
            ("ext 42", "42"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn letters_of_the_keypad_are_read_where_digits_are_missing() {
        for (text, expected) in [
            ("1-800-FLOWERS", "1800 18003569377"),
            ("1 800 FLOWERS", "1800 18003569377"),
            ("1-800-go-fedex", "1800 18004633339"),
            ("415-555-0123 CELL", "4155550123"),
            ("1-800-CONTACTS", "1800 18002668228"),
            ("415 555 0123 2nd line", "4155550123"),
            ("Dana, 2nd floor", ""),
            ("0800 privat", "0800"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
