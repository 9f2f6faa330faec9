//! Hexadecimal digits, lower case only.

pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `None` for an odd number of digits, and for anything but `0-9a-f`.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.bytes().map(digit).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;

    let bytes = digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit));
    Some(bytes.collect())
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_a_round_trip() {
        let bytes: Vec<u8> = (0..=255).collect();

        assert_eq!(encode(&[0, 0x0f, 0xa0]), "000fa0");
        assert_eq!(decode(&encode(&bytes)), Some(bytes));
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in ["0", "0A", "0g", "é"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
