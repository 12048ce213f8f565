//! What stands in tables: secrets and clusters.

use std::fs;

use super::{expect_one, file, problems, serve, told};
use crate::domain::cluster::Source;

#[test]
fn a_secret_is_in_no_print_and_no_message() {
    let loaded = file("name = 'a'\n[sources.prod]\nkubeconfig = 'hunter2'\n");
    let row = loaded
        .in_force
        .iter()
        .find(|row| row.key == "sources.prod.kubeconfig")
        .unwrap();
    assert_eq!(row.value, "(hidden)");
    assert!(!format!("{loaded:?}").contains("hunter2"));
    let serve = loaded.serve.unwrap();
    assert_eq!(serve.sources["prod"].kubeconfig.expose(), "hunter2");
    for toml in [
        "[sources.prod]\nkubeconfig = 'hunter2' x",
        "[sources.prod]\nkubeconfig = hunter2",
        "[sources.prod]\nkubeconfig = '''\ntoken: hunter2\n",
        "[sources.prod]\nkubeconfig = \"\ntoken: hunter2\n\"",
        "[sources.prod]\nkubeconfig = '''a'''\nkubeconfig = '''hunter2'''",
        "[sources]\nkubeconfig = 'hunter2'",
        "[[clusters]]\nname = 'c'\nkubeconfig = '''\napiVersion: v1\ntoken: hunter2\n'''",
        "[[clusters]]\nname = 'c'\nkubeconfig = '{\"token\":\"hunter2\"}'",
        "[[clusters]]\nname = 'c'\nsource = '''\ntoken: hunter2\n'''",
    ] {
        let loaded = file(toml);
        assert!(
            !format!("{loaded:?}").contains("hunter2"),
            "{toml}: {loaded:?}"
        );
        let found = told(loaded);
        let hint = "this is a kubeconfig, not the path of one";
        assert_eq!(
            found[0].contains(hint),
            toml.contains("'c'\nkubeconfig"),
            "{found:?}"
        );
        assert!(
            !found.is_empty() && !found.concat().contains("hunter2"),
            "{found:?}"
        );
    }
}

#[test]
fn clusters_to_create_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    fs::write(&path, "").unwrap();
    let (dir, path) = (folder.path().display(), path.display());
    let serve = serve(&format!(
        "name = 'a'\nkubeconfig_dirs = ['{dir}']\n[sources.s]\nkubeconfig = ''\n\
         [[clusters]]\nname = 'c1'\nkubeconfig = '{path}'\ncontext = 'x'\nlabels = {{ e = 'p' }}\n\
         description = 'of d'\nduplicate_of = 'c2'\n\
         resources = ['v1/pods', {{ resource = 'v1/secrets', namespaces = ['n', 'm'] }}]\n\
         [[clusters]]\nname = 'c2'\nsource = 's'\n[[clusters]]\nname = 'c3'\nin_cluster = true"
    ));
    assert_eq!(serve.clusters.len(), 3);
    let resources = &serve.clusters[0].resources;
    assert_eq!(resources.len(), 2);
    assert_eq!(resources[1].namespaces, ["n", "m"]);
    assert_eq!(serve.clusters[0].stream_selectors().len(), 3);
    assert_eq!(serve.clusters[0].description, "of d");
    assert_eq!(serve.clusters[0].duplicate_of, "c2");
    assert!(serve.clusters[1].resources.is_empty());
    assert_eq!(serve.clusters[0].labels["e"], "p");
    let source = Source::Configured { name: "s".into() };
    assert_eq!(serve.clusters[1].source, source);
}

#[test]
fn a_cluster_that_is_there_twice_is_reported_with_both_places() {
    let found = problems(
        "[[clusters]]\nname = 'c'\nin_cluster = true\n[[clusters]]\nname = 'c'\nin_cluster = true",
    );
    expect_one(
        &found,
        "quorumwatch.toml:5: clusters[c].name: ",
        "cluster \"c\" is already defined",
    );
    assert!(
        found[0].contains("quorumwatch.toml:2; define each once"),
        "{found:?}"
    );
}

#[test]
fn a_kubeconfig_outside_of_the_allowed_directories_is_refused() {
    let found = problems("[[clusters]]\nname = 'c'\nkubeconfig = '/etc/passwd'");
    expect_one(
        &found,
        "quorumwatch.toml:3: clusters[c].kubeconfig: \"/etc/passwd\"",
        "is not in a directory of kubeconfig_dirs; add its directory there",
    );
    let found = problems("kubeconfig_dirs = ['/none', '/etc/passwd']");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[1].contains("name the directory, not a file in it"),
        "{found:?}"
    );
}

#[test]
fn a_source_that_is_not_there_is_reported_with_the_nearest_name() {
    let toml = "sources.prod.kubeconfig = ''\n[[clusters]]\nname = 'c'\nsource = 'prd'";
    let found = problems(toml);
    let begins = "quorumwatch.toml:4: clusters[c].source: there is no \"prd\" in [sources]";
    expect_one(&found, begins, "did you mean \"prod\"?");
}

#[test]
fn a_cluster_needs_one_source_and_resources_that_can_be() {
    for (lines, begins, contains) in [
        (
            "",
            "quorumwatch.toml:1: clusters[c]: ",
            "give exactly one of kubeconfig, source and",
        ),
        (
            "in_cluster = true\nsource = 's'",
            "quorumwatch.toml:1: clusters[c]: ",
            "exactly one of",
        ),
        (
            "in_cluster = true\ncontext = 'x'",
            "quorumwatch.toml:4: clusters[c].context: ",
            "needs kubeconfig",
        ),
        (
            "in_cluster = true\nresources = ['v1/events',\n'pods']",
            "quorumwatch.toml:5: clusters[c].resources: \"pods\" is not of the form",
            "like v1/configmaps",
        ),
        (
            "in_cluster = true\nresources = ['v1/pods', 'v1/pods']",
            "quorumwatch.toml:4: clusters[c].resources: ",
            "v1/pods is named twice",
        ),
        (
            "in_cluster = true\nresources = [{ resource = 'v1/pods', namespaces = ['A'] }]",
            "quorumwatch.toml:4: clusters[c].resources: namespace \"A\" is not valid",
            "lowercase letters",
        ),
        (
            "in_cluster = true\nlabels = { 'a b' = 'c' }",
            "quorumwatch.toml:4: clusters[c].labels: label key \"a b\" is not valid",
            "example.com/tier",
        ),
        (
            "in_cluster = true\nduplicate_of = 'c'",
            "quorumwatch.toml:4: clusters[c].duplicate_of: ",
            "name the other registration",
        ),
        (
            "in_cluster = true\nresources = [{ namespaces = ['a'] }]",
            "quorumwatch.toml:4: clusters[c].resources: ",
            "resource is missing",
        ),
    ] {
        let found = problems(&format!("[[clusters]]\nname = 'c'\n{lines}"));
        expect_one(&found, begins, contains);
    }
    let found = problems("[[clusters]]\nname = 'C'\nin_cluster = true");
    expect_one(
        &found,
        "quorumwatch.toml:2: clusters[C].name: ",
        "lowercase letters",
    );
    let found = problems("[[clusters]]\nin_cluster = true");
    expect_one(
        &found,
        "quorumwatch.toml:1: clusters[1]: name is missing",
        "",
    );
}
