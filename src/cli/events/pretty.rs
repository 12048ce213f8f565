//! JSON for people: indented, and otherwise byte for byte as it was.

/// Indents compact JSON. Numbers, strings and the order of keys stay as they are.
pub(super) fn indented(compact: &str) -> String {
    let mut text = String::with_capacity(compact.len() * 2);
    let mut depth = 0;
    let mut in_string = false;
    let mut escaped = false;
    let mut symbols = compact.chars().peekable();
    while let Some(symbol) = symbols.next() {
        if in_string {
            text.push(symbol);
            in_string = symbol != '"' || escaped;
            escaped = symbol == '\\' && !escaped;
            continue;
        }
        match symbol {
            '"' => {
                in_string = true;
                text.push(symbol);
            }
            '{' | '[' => {
                text.push(symbol);
                while symbols.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                match symbols.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => text.push(end),
                    None => {
                        depth += 1;
                        new_line(&mut text, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut text, depth);
                text.push(symbol);
            }
            ',' => {
                text.push(symbol);
                new_line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            // Between tokens of an object that was indented already.
            symbol if symbol.is_ascii_whitespace() => {}
            symbol => text.push(symbol),
        }
    }
    text
}

fn new_line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::indented;

    #[test]
    fn only_white_space_is_added() {
        let compact = r#"{"z":1.50,"a":[1,{}, [ ] ],"s":"a,\"{b}\\","n":12345678901234567890123}"#;
        let told = r#"{
  "z": 1.50,
  "a": [
    1,
    {},
    []
  ],
  "s": "a,\"{b}\\",
  "n": 12345678901234567890123
}"#;
        assert_eq!(indented(compact), told);
        assert_eq!(indented(&indented(compact)), told);
    }
}
