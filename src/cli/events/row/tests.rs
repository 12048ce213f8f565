use super::{
    ChangeType, Event, Frame, Row, StreamChange, StreamChangeReason, StreamChangeType,
    SubscribeResponse, event as row_of, note, stream_change,
};
use crate::proto::v1::ObjectMeta;

fn event(json: &str) -> Event {
    Event {
        cluster: "c".into(),
        resource: "v1/configmaps".into(),
        change_type: ChangeType::Added.into(),
        object: Some(ObjectMeta {
            namespace: "n".into(),
            name: "x".into(),
            ..ObjectMeta::default()
        }),
        object_json: json.to_owned(),
        ..Event::default()
    }
}

fn main_cells(row: &Row) -> [&str; 5] {
    [
        &row.change,
        &row.kind,
        &row.reason,
        &row.object,
        &row.message,
    ]
}

#[test]
fn an_event_shows_what_it_is_about() {
    let row = row_of(&event(
        r#"{"kind":"Event","type":"Warning","reason":"BackOff","message":"again","count":7,
            "involvedObject":{"kind":"Pod","name":"web-0","fieldPath":"spec.containers{a}"},
            "source":{"component":"kubelet","host":"n1"},"lastTimestamp":null}"#,
    ));
    let expected = ["ADDED", "Warning", "BackOff", "pod/web-0", "again"];
    assert_eq!(main_cells(&row), expected);
    let wide = [&row.subobject, &row.source, &row.count, &row.name];
    assert_eq!(wide, ["spec.containers{a}", "kubelet, n1", "7", "x"]);
}

#[test]
fn an_event_of_the_newer_group_shows_the_same() {
    let row = row_of(&event(
        r#"{"type":"Normal","reason":"Scheduled","note":"done","series":{"count":3},
            "regarding":{"kind":"Pod","name":"web-0"},"reportingController":"scheduler",
            "deprecatedSource":{}}"#,
    ));
    let expected = ["ADDED", "Normal", "Scheduled", "pod/web-0", "done"];
    assert_eq!(main_cells(&row), expected);
    assert_eq!([&row.source, &row.count], ["scheduler", "3"]);
}

#[test]
fn any_object_shows_its_name() {
    for json in ["{}", "no json", r#"{"type":{"a":1},"data":{}}"#] {
        let row = row_of(&event(json));
        let expected = ["ADDED", "-", "-", "configmaps/x", "-"];
        assert_eq!(main_cells(&row), expected, "{json}");
    }
}

#[test]
fn streams_are_shown_where_there_is_news_of_them() {
    let change = |kind: StreamChangeType, reason: StreamChangeReason| StreamChange {
        stream: "7".into(),
        r#type: kind.into(),
        reason: reason.into(),
        cluster: "c".into(),
        resource: "v1/events".into(),
        ..StreamChange::default()
    };
    let subscribed = change(StreamChangeType::Added, StreamChangeReason::Subscribed);
    assert_eq!(stream_change(&subscribed), None);
    let paused = StreamChange {
        paused: true,
        ..subscribed
    };
    assert_eq!(stream_change(&paused).unwrap().reason, "paused");
    let removed = change(
        StreamChangeType::Removed,
        StreamChangeReason::ClusterDeleted,
    );
    let row = stream_change(&removed).unwrap();
    let expected = ["STREAM", "-", "removed", "v1/events", "cluster deleted"];
    assert_eq!(main_cells(&row), expected);
    let response = SubscribeResponse {
        frame: Some(Frame::StreamChange(removed)),
        ..SubscribeResponse::default()
    };
    let text = note(&response).unwrap();
    assert_eq!(text, "c v1/events removed: cluster deleted");
    let unknown = StreamChange {
        stream: "7".into(),
        r#type: StreamChangeType::Removed.into(),
        ..StreamChange::default()
    };
    assert_eq!(stream_change(&unknown).unwrap().object, "stream 7");
}
