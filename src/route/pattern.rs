//! What a number or a header looks like, in the few signs that people who run exchanges know.

use std::fmt;
use std::str::FromStr;

/// Which numbers: digits and other letters as they stand, `X` for any digit, `[2-47]` for one of these, and `*` at the
/// end for whatever follows. `X` is a digit only where no other letters are: `MAX` is a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    source: String,
    places: Vec<Place>,
    /// Anything may follow.
    is_open: bool,
}

/// One place of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Letter(char),
    /// A digit, as bits: 1 << 7 for `7`.
    Digit(u16),
}

const ANY_DIGIT: u16 = 0x3ff;

impl Pattern {
    /// Whether a number is meant.
    pub fn fits(&self, number: &str) -> bool {
        let mut letters = number.chars();
        for place in &self.places {
            if !letters.next().is_some_and(|letter| place.is(letter)) {
                return false;
            }
        }
        self.is_open || letters.next().is_none()
    }

    /// Whether every number that fits `other` fits this as well.
    pub fn covers(&self, other: &Pattern) -> bool {
        let long_enough = match (self.is_open, other.is_open) {
            (true, _) => self.places.len() <= other.places.len(),
            (false, true) => false,
            (false, false) => self.places.len() == other.places.len(),
        };
        long_enough && self.places.iter().zip(&other.places).all(|(mine, theirs)| mine.covers(*theirs))
    }

    /// The only number that it is for; `None` when there are several.
    pub fn only(&self) -> Option<&str> {
        let is_one = !self.is_open && self.places.iter().all(|place| matches!(place, Place::Letter(_)));
        is_one.then_some(self.source.as_str())
    }

    /// Whether it is for every number.
    pub fn is_any(&self) -> bool {
        self.is_open && self.places.is_empty()
    }
}

impl Place {
    fn is(self, letter: char) -> bool {
        match self {
            Place::Letter(own) => own == letter,
            Place::Digit(set) => letter.to_digit(10).is_some_and(|digit| set & (1 << digit) != 0),
        }
    }

    fn covers(self, other: Place) -> bool {
        match (self, other) {
            (_, Place::Letter(letter)) => self.is(letter),
            (Place::Digit(mine), Place::Digit(theirs)) => mine & theirs == theirs,
            (Place::Letter(letter), Place::Digit(set)) => letter.to_digit(10).is_some_and(|digit| set == 1 << digit),
        }
    }
}

/// Why a text is no pattern, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternFault {
    /// Where.
    pub at: usize,
    /// What.
    pub what: &'static str,
}

impl FromStr for Pattern {
    type Err = PatternFault;

    fn from_str(source: &str) -> Result<Pattern, PatternFault> {
        // `*31` is a number; a lone star at the end is the sign.
        let (plain, is_open) = match source.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (source, false),
        };
        let is_number = !plain.chars().any(|letter| letter.is_ascii_alphabetic() && letter != 'X');
        let mut places = Vec::new();
        let mut letters = plain.char_indices();
        while let Some((at, letter)) = letters.next() {
            places.push(match letter {
                'X' if is_number => Place::Digit(ANY_DIGIT),
                '[' => {
                    let Some(close) = plain[at..].find(']').map(|found| at + found) else {
                        return Err(PatternFault { at, what: "this bracket is not closed" });
                    };
                    let set = digits(&plain[at + 1..close]);
                    // The bracket and what is in it are done.
                    letters.by_ref().take_while(|(_, letter)| *letter != ']').for_each(drop);
                    Place::Digit(set.ok_or(PatternFault { at, what: "in brackets stand digits, as [2-47]" })?)
                }
                letter if letter.is_ascii_alphanumeric() || "+-_.!~*'()&=$,;?/%#".contains(letter) => {
                    Place::Letter(letter)
                }
                _ => return Err(PatternFault { at, what: "this is no called number" }),
            });
        }
        Ok(Pattern { source: source.to_owned(), places, is_open })
    }
}

/// The digits of `2-47`; `None` when it is something else.
fn digits(inside: &str) -> Option<u16> {
    let mut set = 0;
    let mut letters = inside.chars().peekable();
    while let Some(letter) = letters.next() {
        let first = letter.to_digit(10)?;
        let last = match letters.next_if_eq(&'-') {
            Some(_) => letters.next()?.to_digit(10).filter(|last| *last >= first)?,
            None => first,
        };
        for digit in first..=last {
            set |= 1 << digit;
        }
    }
    (set != 0).then_some(set)
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// What a header's value looks like: as it stands, with `*` at either end for whatever is there. Compared without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    source: String,
    middle: String,
    is_open_before: bool,
    is_open_behind: bool,
}

impl Glob {
    /// Whether a value is meant.
    pub fn fits(&self, value: &str) -> bool {
        let value = value.trim().to_ascii_lowercase();
        match (self.is_open_before, self.is_open_behind) {
            (true, true) => value.contains(&self.middle),
            (true, false) => value.ends_with(&self.middle),
            (false, true) => value.starts_with(&self.middle),
            (false, false) => value == self.middle,
        }
    }
}

impl FromStr for Glob {
    type Err = std::convert::Infallible;

    fn from_str(source: &str) -> Result<Glob, std::convert::Infallible> {
        let (is_open_before, rest) = match source.strip_prefix('*') {
            Some(rest) => (true, rest),
            None => (false, source),
        };
        let (is_open_behind, middle) = match rest.strip_suffix('*') {
            Some(middle) => (true, middle),
            None => (false, rest),
        };
        let middle = middle.trim().to_ascii_lowercase();
        Ok(Glob { source: source.to_owned(), middle, is_open_before, is_open_behind })
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(source: &str) -> Pattern {
        source.parse().unwrap()
    }

    #[test]
    fn numbers_fit_by_digit_by_set_and_by_beginning() {
        assert!(pattern("+3902XXXXXXXX").fits("+390212345678") && !pattern("+3902XXXXXXXX").fits("+39021234567"));
        assert!(pattern("2[0-35]X").fits("239") && pattern("2[0-35]X").fits("250") && !pattern("2[0-35]X").fits("249"));
        assert!(pattern("+44*").fits("+4420") && !pattern("+44*").fits("4420"));
        assert!(pattern("*31#").fits("*31#") && !pattern("*31#").fits("31#"));
        assert_eq!(
            ["100", "10X", "10*"].map(|it| pattern(it).only().map(str::to_owned)),
            [Some("100".into()), None, None]
        );
        assert!(pattern("*").fits("") && pattern("*").is_any() && !pattern("X*").is_any());
    }

    #[test]
    fn names_are_taken_as_they_stand() {
        assert!(pattern("MAX").fits("MAX") && !pattern("MAX").fits("MA5"));
        assert!(pattern("desk-1*").fits("desk-12"));
    }

    #[test]
    fn a_pattern_covers_what_is_narrower() {
        let covers = |wide: &str, narrow: &str| pattern(wide).covers(&pattern(narrow));

        assert!(covers("+44*", "+4420") && covers("+44*", "+442*") && covers("*", "+44*") && covers("20X", "20[3-5]"));
        assert!(covers("20X", "201") && covers("20[1]", "201") && covers("201", "20[1]"));
        assert!(!covers("+44*", "*") && !covers("20[3-5]", "20X") && !covers("20X", "20X*") && !covers("20X", "2000"));
    }

    #[test]
    fn a_mistake_is_found_at_its_place() {
        let at = |source: &str| source.parse::<Pattern>().unwrap_err().at;

        assert_eq!((at("+44 20"), at("2[0-"), at("2[a]"), at("2[]"), at("2[9-1]"), at("ä")), (3, 1, 1, 1, 1, 0));
    }

    #[test]
    fn header_values_fit_at_either_end_and_without_case() {
        let fits = |glob: &str, value: &str| glob.parse::<Glob>().unwrap().fits(value);

        assert!(fits("Gold", " gold ") && fits("gold*", "Gold-7") && fits("*;verstat=TN-*", "<x>;Verstat=tn-passed"));
        assert!(fits("*", "") && !fits("gold", "gold-7") && !fits("*gold", "gold-7"));
    }
}
