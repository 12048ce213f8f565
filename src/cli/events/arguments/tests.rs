use clap::Parser as _;

use super::{Arguments, Begin, ChangeType, Cursor, Until, View};

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn arguments(line: &[&str]) -> Arguments {
    let line = ["events"].iter().chain(line);
    Line::try_parse_from(line).unwrap().arguments
}

#[test]
fn flags_are_one_filter_and_each_filter_is_another() {
    assert!(arguments(&[]).options(None).filters.is_empty());
    let line = [
        "--cluster",
        "a,b",
        "--label",
        "app=web",
        "--change",
        "deleted",
        "--name",
        "x",
        "--filter",
        r#"{"namespaces":["shop"]}"#,
    ];
    let filters = arguments(&line).options(None).filters;
    assert_eq!(filters.len(), 2);
    assert_eq!(filters[0].clusters, ["a", "b"]);
    assert_eq!(filters[0].object_selector, "app=web");
    assert_eq!(filters[0].names, ["x"]);
    assert_eq!(filters[0].change_types, [i32::from(ChangeType::Deleted)]);
    assert_eq!(filters[0].kubernetes_event, None);
    assert_eq!(filters[1].namespaces, ["shop"]);
    let filters = arguments(&["--type", "warning", "--source", "kubelet"]);
    let filters = filters.options(None).filters;
    let event = filters[0].kubernetes_event.as_ref().unwrap();
    assert_eq!(
        (&event.types[0], &event.sources[0]),
        (&"Warning".into(), &"kubelet".into())
    );
}

#[test]
fn a_cursor_is_stronger_than_a_file_and_that_is_stronger_than_a_snapshot() {
    let saved = || Some(Cursor::from_parts(vec!["s".into()]));
    let begin = |line: &[&str], saved| arguments(line).options(saved).begin;
    let parts = |parts: &[&str]| {
        let parts = parts.iter().map(ToString::to_string).collect();
        Begin::After(Cursor::from_parts(parts))
    };
    assert_eq!(begin(&["--cursor", "w,d"], saved()), parts(&["w", "d"]));
    assert_eq!(begin(&["--snapshot"], saved()), parts(&["s"]));
    assert_eq!(begin(&["--snapshot"], None), Begin::Snapshot);
    assert_eq!(begin(&[], None), Begin::Now);
}

#[test]
fn the_view_and_the_end_are_asked_for() {
    let options = arguments(&["--view", "metadata", "--until", "up-to-date"]).options(None);
    assert_eq!(
        (options.view, options.until),
        (View::Metadata, Until::UpToDate)
    );
    for line in [
        vec!["--filter", r#"{"cluster":"a"}"#],
        vec!["--snapshot", "--change", "added"],
        vec!["--cursor", "c", "--cursor-file", "f"],
        vec!["--change", "snapshot"],
    ] {
        let line = ["events"].into_iter().chain(line);
        assert!(Line::try_parse_from(line).is_err());
    }
}
