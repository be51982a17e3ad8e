use super::super::fold::fold;
use super::*;

/// Pieces as `gap+digits x extension`: `/` for punctuation, nothing for words.
fn shown(text: &str) -> String {
    let piece = |piece: Piece| {
        let gap = if piece.gap == Gap::Punctuation {
            "/"
        } else {
            ""
        };
        let plus = if piece.plus { "+" } else { "" };
        let extension = piece
            .extension
            .map(|extension| format!("x{extension}"))
            .unwrap_or_default();
        format!("{gap}{plus}{}{extension}", piece.digits)
    };
    pieces(&fold(text))
        .into_iter()
        .map(piece)
        .collect::<Vec<_>>()
        .join(" ")
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
        (
            "+1 415\u{200e} 555\u{2066} 01\u{200b}23\u{ad}",
            "+14155550123",
        ),
        ("\u{ff0b}\u{ff11} \u{ff14}\u{ff11}\u{ff15}", "+1415"),
        ("\u{660}\u{665}\u{660} \u{966}", "0500"),
        ("415\u{2013}555\u{2011}0123", "4155550123"),
        ("tel:+1-650-555-1234", "+16505551234"),
        ("Tel.: +49 30 5551234", "+49305551234"),
        ("030/5551234", "030 /5551234"),
        ("415-555-0123 (mobile)", "4155550123"),
        (
            "0171 2345678 privat (seit 2019) 030 1",
            "01712345678 2019 0301",
        ),
        ("415-555-0123 or 415-555-0124", "4155550123 4155550124"),
        (
            "+1 415 555 0123 +1 415 555 0124",
            "+14155550123 /+14155550124",
        ),
        (
            "415 555 0123, 415 555 0124 ; 1|2",
            "4155550123 /4155550124 /1 /2",
        ),
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
        (
            "650 555 1234 x42 / 650 555 1235 x43",
            "6505551234x42 6505551235x43",
        ),
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
