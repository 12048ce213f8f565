//! Marked blocks of our documents: what is typed, and what is shown after it.

/// A command with what the document shows of its output.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// As typed, its further lines included.
    pub(super) command: String,
    /// Nothing where the document shows nothing.
    pub(super) shown: Vec<String>,
    /// Where the document has it.
    pub(super) line: usize,
}

/// The names of all marked blocks of a document, in order, each once.
pub(super) fn names(document: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for name in document.lines().filter_map(marker) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The steps of all blocks of a name: they are one session.
pub(super) fn steps(document: &str, name: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut is_marked, mut is_inside) = (false, false);
    for (index, line) in document.lines().enumerate() {
        if line.starts_with("```") {
            is_inside = is_marked && !is_inside;
            is_marked = is_inside;
        } else if let Some(marked) = marker(line) {
            is_marked = marked == name;
        } else if !is_inside {
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                command: command.to_owned(),
                shown: Vec::new(),
                line: index + 1,
            });
        } else if let Some(step) = steps.last_mut() {
            let continues = step.shown.is_empty() && step.command.ends_with('\\');
            match line.strip_prefix("> ") {
                None if !continues => step.shown.push(line.to_owned()),
                more => step.command = format!("{}\n{}", step.command, more.unwrap_or(line)),
            }
        }
    }
    steps
}

fn marker(line: &str) -> Option<&str> {
    line.strip_prefix("<!-- run: ")?.strip_suffix(" -->")
}

/// Whether output is as shown: `...` stands for anything within a line, and alone for any number of
/// lines; how much white space there is does not matter. With `is_open`, more may follow.
pub(super) fn is_as_shown(shown: &[String], output: &str, is_open: bool) -> bool {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let full = |line: &String| !line.is_empty();
    let shown: Vec<_> = shown.iter().map(|line| words(line)).filter(full).collect();
    let output: Vec<_> = output.lines().map(words).filter(full).collect();
    lines_match(&shown, &output, is_open)
}

fn lines_match(shown: &[String], output: &[String], is_open: bool) -> bool {
    match shown.split_first() {
        None => is_open || output.is_empty(),
        Some((first, rest)) if first == "..." => {
            (0..=output.len()).any(|skip| lines_match(rest, &output[skip..], is_open))
        }
        Some((first, rest)) => output.split_first().is_some_and(|(line, more)| {
            line_matches(first, line) && lines_match(rest, more, is_open)
        }),
    }
}

fn line_matches(shown: &str, mut line: &str) -> bool {
    let parts: Vec<_> = shown.split("...").map(str::trim).collect();
    let (last, firsts) = parts.split_last().expect("there is always a part");
    for (index, part) in firsts.iter().enumerate() {
        match line.find(part) {
            Some(at) if index > 0 || at == 0 => line = &line[at + part.len()..],
            _ => return false,
        }
    }
    if firsts.is_empty() {
        line == *last
    } else {
        line.ends_with(last)
    }
}

#[test]
fn steps_are_read_as_one_session() {
    let document = "\
<!-- run: one -->
```console
$ a \\
    b
shown
$ cat <<E
> in
> E
```
```console
$ not marked
```
<!-- run: two -->
```console
$ other
```
<!-- run: one -->
```console
$ c
```
";
    let steps = steps(document, "one");
    let commands: Vec<_> = steps.iter().map(|step| step.command.as_str()).collect();
    assert_eq!(commands, ["a \\\n    b", "cat <<E\nin\nE", "c"]);
    assert_eq!(steps[0].shown, ["shown"]);
    assert_eq!(names(document), ["one", "two"]);
}

#[test]
fn dots_stand_for_anything() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let is = |expected: &str, output: &str| is_as_shown(&shown(expected), output, false);
    assert!(is("a   b\n...\nlast", "a b\n\nx\ny\nlast\n"));
    assert!(is("a ... c", "a b c") && is("... c", "b c") && is("a ...", "a b"));
    assert!(!is("a ... c", "x a b c") && !is("a", "a\nb") && !is("a\nb", "a"));
    assert!(is_as_shown(&shown("a"), "a\nb", true));
    assert!(!is_as_shown(&shown("a\nb"), "a", true));
}
