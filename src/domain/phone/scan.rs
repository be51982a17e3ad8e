//! Finds numbers in prose: a phone field contains what somebody typed, with remarks, second
//! numbers, extensions and invisible characters.
//!
//! [`pieces`] finds the runs of digits that belong together in a folded text. `stored` decides what
//! several pieces mean together.

use super::{Certainty, Extension};

/// A run of digits that belong to one number, as far as their separators show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// What is between this piece and the previous one.
    pub(super) gap: Gap,
    /// Whether a `+` precedes the digits.
    pub(super) plus: bool,
    /// ASCII digits, never empty.
    pub(super) digits: String,
    /// The extension after it.
    pub(super) extension: Option<Extension>,
    /// `Likely` if letters complete it, and these letters may also be a remark.
    pub(super) at_best: Certainty,
    /// Where it might end.
    pub(super) breaks: Vec<Break>,
}

impl Piece {
    /// Two pieces of one: its first digits, and the rest. Both are at best likely.
    pub(super) fn split_at(&self, at: usize) -> (Self, Self) {
        let (first, rest) = self.digits.split_at(at);
        let part = |digits: &str| Self {
            digits: digits.to_owned(),
            at_best: Certainty::Likely,
            breaks: Vec::new(),
            ..self.clone()
        };
        let first = Self {
            extension: None,
            ..part(first)
        };
        let rest = Self {
            gap: Gap::Words,
            plus: false,
            ..part(rest)
        };
        (first, rest)
    }
}

/// A space or an opening parenthesis in a piece. The space after a closing parenthesis does not
/// count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Break {
    /// How many digits precede it.
    pub(super) at: usize,
    pub(super) is_parenthesis: bool,
}

/// What is between two pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// The beginning of the text, or words. A remark ends the number before it.
    Words,
    /// Punctuation such as `/` and `,`, which separates numbers, but also area codes.
    Punctuation,
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

/// What turns a 2 into "2nd".
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
    /// A number with keypad letters, from its first digit on.
    spelt: Option<Piece>,
    gap: Option<Gap>,
    plus: bool,
    /// Whether an extension was announced for the last piece.
    announced: bool,
    /// Whether a parenthesis contains words, so that its end is the end of a remark.
    remark: bool,
    /// Digits since the last mark.
    run: usize,
    /// The last mark, if nothing came after it.
    last: Option<char>,
    /// The mark before it, if nothing is between them.
    before_last: Option<char>,
}

impl Scan {
    fn digits(&mut self, digits: &str) {
        if std::mem::take(&mut self.announced) && digits.len() <= 15 {
            if let (Some(piece), Ok(extension)) = (self.pieces.last_mut(), Extension::parse(digits))
            {
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
            let is_parenthesis = self.last == Some('(');
            let is_space = self.last == Some(' ') && self.before_last != Some(')');
            if is_parenthesis || is_space {
                open.breaks.push(Break {
                    at: open.digits.len(),
                    is_parenthesis,
                });
            }
            open.digits.push_str(digits);
        } else {
            let gap = self.gap.unwrap_or(Gap::Words);
            let plus = std::mem::take(&mut self.plus);
            self.open = Some(Piece {
                gap,
                plus,
                digits: digits.to_owned(),
                extension: None,
                at_best: Certainty::Certain,
                breaks: Vec::new(),
            });
        }
        (self.gap, self.last, self.before_last) = (None, None, None);
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
        if mark != ' ' || before != Some(' ') {
            self.before_last = before;
        }
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
                self.close(if matches!(mark, ':' | '@' | '=') {
                    Gap::Words
                } else {
                    Gap::Punctuation
                });
                self.plus = false;
            }
        }
    }

    /// The last digits belong to the word after them.
    fn forget_run(&mut self) {
        if let Some(open) = &mut self.open {
            open.digits.truncate(open.digits.len() - self.run);
        }
        self.open.take_if(|open| open.digits.is_empty());
    }

    /// Ends the open piece. A remark takes precedence over punctuation next to it.
    fn close(&mut self, gap: Gap) {
        let open = self.open.take();
        let words = gap == Gap::Words
            || (open.is_none() && self.gap == Some(Gap::Words))
            || (open.is_none() && self.pieces.is_empty());
        self.gap = Some(if words { Gap::Words } else { Gap::Punctuation });
        self.pieces.extend(open);
    }

    /// "1-800-FLOWERS": keypad letters that continue a number with too few digits.
    fn remember_spelt(&mut self, letters: &str) {
        let keys = letters.chars().map(key).collect::<Option<String>>();
        // Letters after a space are a remark, unless they are in capitals. If more digits than a
        // prefix precede the space, capitals after it may be a remark or a part of the number.
        let shouted = letters.len() > 1 && letters.bytes().all(|byte| byte.is_ascii_uppercase());
        let joined = matches!(self.last, None | Some('-'));
        let begun = self
            .spelt
            .take()
            .or_else(|| self.open.clone().filter(|open| !is_local_number(open)));
        if let (Some(mut spelt), Some(keys)) = (begun, keys.filter(|_| shouted || joined)) {
            if !joined && spelt.digits.len() > PREFIX {
                spelt.at_best = Certainty::Likely;
            }
            spelt.digits.push_str(&keys);
            self.spelt = Some(spelt);
        }
    }

    fn spell(&mut self) {
        let Some(mut spelt) = self.spelt.take().filter(|spelt| spelt.digits.len() > 6) else {
            return;
        };
        // North American words may be longer than the number.
        match spelt.digits.as_bytes()[0] {
            b'0' => {}
            b'1' => spelt.digits.truncate(11),
            _ if !spelt.plus => spelt.digits.truncate(10),
            _ => {}
        }
        self.pieces.push(Piece {
            gap: Gap::Words,
            ..spelt
        });
    }
}

/// The most digits of a vanity number's prefix: "1-800", "0800", "1300".
const PREFIX: usize = 4;

/// Returns whether the digits suffice for a number without area code: letters after them are a
/// remark.
fn is_local_number(piece: &Piece) -> bool {
    let before = usize::from(piece.plus || piece.digits.starts_with('1'));
    piece.digits.len() >= 7 + before
}

/// The telephone key with this letter (ITU-T E.161).
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
        Some(if first.is_ascii_digit() {
            Token::Digits(run)
        } else {
            Token::Letters(run)
        })
    }
}

#[cfg(test)]
mod tests;
