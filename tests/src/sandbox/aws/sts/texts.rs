//! The constraints of STS's parameters.

use crate::sandbox::aws::params::{Text, any_text};

pub(super) const ROLE_ARN: Text = any_text(20, 2048);
pub(super) const TAG_KEY: Text = tag_text(1, 128);
pub(super) const TAG_VALUE: Text = tag_text(0, 256);

pub(super) const POLICY: Text = Text {
    min: 1,
    max: 2048,
    pattern: "[\\u0009\\u000A\\u000D\\u0020-\\u00FF]+",
    is_allowed: |character| matches!(character, '\t' | '\n' | '\r' | ' '..='\u{ff}'),
};

pub(super) const SESSION_NAME: Text = Text {
    min: 2,
    max: 64,
    pattern: "[\\w+=,.@-]*",
    is_allowed: |character| is_word(character) || "+=,.@-".contains(character),
};

pub(super) const EXTERNAL_ID: Text = Text {
    min: 2,
    max: 1224,
    pattern: "[\\w+=,.@:\\/-]*",
    is_allowed: |character| is_word(character) || "+=,.@:/-".contains(character),
};

pub(super) const SERIAL_NUMBER: Text = Text {
    min: 9,
    max: 256,
    pattern: "[\\w+=/:,.@-]*",
    is_allowed: |character| is_word(character) || "+=/:,.@-".contains(character),
};

pub(super) const TOKEN_CODE: Text = Text {
    min: 6,
    max: 6,
    pattern: "[\\d]*",
    is_allowed: |character| character.is_ascii_digit(),
};

pub(super) const ACCESS_KEY_ID: Text = Text {
    min: 16,
    max: 128,
    pattern: "[\\w]*",
    is_allowed: is_word,
};

const fn tag_text(min: usize, max: usize) -> Text {
    Text {
        min,
        max,
        pattern: "[\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*",
        is_allowed: |character| {
            character.is_alphanumeric()
                || character.is_whitespace()
                || "_.:/=+-@".contains(character)
        },
    }
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}
