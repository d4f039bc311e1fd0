//! Keeps tokens out of texts. SFUs echo them: LiveKit's 401 body holds the whole token it refused.

/// Long enough that no word of a message is taken for one, short enough for a piece of a token.
const SECRET_LENGTH_MIN: usize = 24;
/// Messages of servers are cut here, bytes.
const MESSAGE_LENGTH_MAX: usize = 300;

fn is_token_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=' | '+' | '/' | '%' | '~')
}

/// `text` without anything that looks like a token or a query, and of bounded length.
pub(crate) fn redact(text: &str) -> String {
    let mut clean = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(|c| !is_token_character(c)).unwrap_or(rest.len());
        let (head, tail) = rest.split_at(word);
        clean.push_str(if looks_secret(head) { "[redacted]" } else { head });
        let gap = tail.find(is_token_character).unwrap_or(tail.len());
        let (between, next) = tail.split_at(gap);
        clean.extend(between.chars().map(|c| if c.is_control() { ' ' } else { c }));
        rest = next;
    }
    if clean.len() > MESSAGE_LENGTH_MAX {
        let end = (0..=MESSAGE_LENGTH_MAX).rev().find(|&at| clean.is_char_boundary(at)).unwrap_or(0);
        clean.truncate(end);
        clean.push('…');
    }
    clean
}

/// A JWT begins with `{"` in base64; anything else long with digits and letters mixed is treated alike, addresses and paths are not.
fn looks_secret(word: &str) -> bool {
    if word.contains("eyJ") {
        return true;
    }
    let longest = word.split(['/', '.']).map(str::len).max().unwrap_or(0);
    let mixed = word.chars().any(|c| c.is_ascii_digit()) && word.chars().any(|c| c.is_ascii_alphabetic());
    longest >= SECRET_LENGTH_MIN && mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_and_the_rest_stays() {
        let text = redact("invalid token: eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJr.c2lnbmF0dXJl, error: token is expired (exp)");
        assert_eq!(text, "invalid token: [redacted], error: token is expired (exp)");
        assert_eq!(redact("GET /rtc?access_token=eyJhbGciOi"), "GET /rtc?[redacted]");
        assert_eq!(redact("bad signature c2lnbmF0dXJlLW9mLWEtdG9rZW4x!"), "bad signature [redacted]!");
        let kept = "cannot reach wss://sfu-1.eu-west.example.com:443/rtc: connection refused (os error 111), 192.0.2.7:7882";
        assert_eq!(redact(kept), kept);
    }

    #[test]
    fn bounded_and_on_one_line() {
        let text = redact(&"ä ".repeat(500));
        assert!(text.len() <= MESSAGE_LENGTH_MAX + '…'.len_utf8());
        assert_eq!(redact("a\nb\r\0c"), "a b  c");
    }
}
