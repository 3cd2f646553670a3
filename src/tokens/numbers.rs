//! Whole numbers as English words.

/// The value of a number in figures, with or without commas between thousands; `None` for
/// anything else, leading zeros and a thousand million or more.
pub(super) fn parse(word: &[u8]) -> Option<u32> {
    let mut groups = word.split(|&byte| byte == b',');
    let first = groups.next()?;
    let mut digits = first.to_vec();
    for group in groups {
        if group.len() != 3 || first.len() > 3 {
            return None;
        }
        digits.extend_from_slice(group);
    }
    let plain = !digits.is_empty() && digits.len() <= 9 && digits.iter().all(u8::is_ascii_digit);
    if !plain || first.is_empty() || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
}

/// Gives the words of a number below a thousand million, one by one, without "and".
pub(super) fn spell(number: u32, mut word: impl FnMut(&'static str)) {
    if number == 0 {
        word(SMALL[0]);
    }
    for (unit, name) in [(1_000_000, "million"), (1_000, "thousand"), (1, "")] {
        let part = number / unit % 1_000;
        if part >= 100 {
            word(SMALL[(part / 100) as usize]);
            word("hundred");
        }
        let rest = part % 100;
        if rest >= 20 {
            word(TENS[(rest / 10) as usize - 2]);
        }
        let small = if rest < 20 { rest } else { rest % 10 };
        if small > 0 {
            word(SMALL[small as usize]);
        }
        if part > 0 && !name.is_empty() {
            word(name);
        }
    }
}

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let spelled = |word: &str| {
            let mut words = Vec::new();
            if let Some(number) = parse(word.as_bytes()) {
                spell(number, |word| words.push(word));
            }
            words.join(" ")
        };
        for (word, expected) in [
            ("0", "zero"),
            ("7", "seven"),
            ("10", "ten"),
            ("19", "nineteen"),
            ("20", "twenty"),
            ("21", "twenty one"),
            ("100", "one hundred"),
            ("1000", "one thousand"),
            ("1,000,000", "one million"),
            ("1999", "one thousand nine hundred ninety nine"),
            ("2000017", "two million seventeen"),
            (
                "999999999",
                "nine hundred ninety nine million nine hundred ninety nine thousand nine hundred ninety nine",
            ),
            ("1000000000", ""),
            ("007", ""),
            ("1,00", ""),
            ("1000,000", ""),
            (",100", ""),
            ("3.5", ""),
            ("", ""),
            ("a", ""),
        ] {
            assert_eq!(spelled(word), expected, "{word}");
        }
    }
}
