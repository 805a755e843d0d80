use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::template::{Architecture, Kind};

fn ours(name: &str) -> Json {
    json!({ "name": name, "variant": "nano-ace", "parameters": { "live-buffer": 10, "access-token": "hunter" } })
}

fn own(templates: &Templates) -> Vec<String> {
    let own = templates.list().filter(|(_, kind)| *kind == Kind::Own);
    own.map(|(template, _)| template.name.clone()).collect()
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// All 35 parameters of the system before, as it has them by default.
fn theirs() -> Json {
    let mut parameters = Vec::new();
    for (enabled, kind, names) in [
        (true, "flag", "client-console=true bind-all=true"),
        (true, "string", "live-cache-type=memory vod-cache-type=disk"),
        (
            true,
            "bytes",
            "live-cache-size=268435456 vod-cache-size=536870912 max-file-size=2147483648 log-max-size=10485760",
        ),
        (
            true,
            "int",
            "live-buffer=10 vod-buffer=5 refill-buffer-interval=5 max-connections=200 max-peers=40 \
             max-upload-slots=4 auto-slots=1 stats-report-interval=60 core-dlr-periodic-check-interval=10 \
             check-live-pos-interval=10 log-backup-count=3",
        ),
        (false, "flag", "service-remote-access=false allow-user-config=false stats-report-peers=false"),
        (false, "string", "access-token= service-access-token="),
        (false, "path", "cache-dir=~/.ACEStream log-file="),
        (
            false,
            "int",
            "vod-drop-max-age=0 download-limit=0 upload-limit=0 port=8621 \
             webrtc-allow-outgoing-connections=0 webrtc-allow-incoming-connections=0 \
             slots-manager-use-cpu-limit=0 core-skip-have-before-playback-pos=0 log-debug=0",
        ),
    ] {
        for pair in names.split_whitespace() {
            let (name, value) = pair.split_once('=').unwrap();
            let value = match kind {
                "flag" => json!(value == "true"),
                "string" | "path" => json!(value),
                _ => json!(value.parse::<i64>().unwrap()),
            };
            parameters.push(
                json!({ "name": format!("--{name}"), "type": kind, "value": value, "enabled": enabled }),
            );
        }
    }
    assert_eq!(parameters.len(), 35);
    json!({
        "slot_id": 3, "name": "My Template (3)",
        "config": {
            "enabled": true, "platform": "amd64", "arm_version": "3.2.13", "amd64_version": "3.2.11-py3.10",
            "memory_limit": "512m", "parameters": parameters, "torrent_folder_mount_enabled": false,
            "torrent_folder_host_path": null,
        },
    })
}

fn theirs_with(path: &str, value: Json) -> Json {
    let mut theirs = theirs();
    *theirs.pointer_mut(path).unwrap() = value;
    theirs
}

#[test]
fn what_is_exported_is_imported_with_its_secrets_and_nothing_is_activated() {
    let mut first = Templates::default();
    for name in ["a", "b"] {
        first.put(serde_json::from_value(ours(name)).unwrap()).unwrap();
    }
    first.activate("b").unwrap();
    assert_eq!(first.export()["templates"][0], ours("a"));
    assert_eq!(first.export()["active"], "b");
    let written: Json = serde_json::from_slice(&first.to_json_bytes()).unwrap();
    assert_eq!(written, first.export());

    let mut second = Templates::default();
    second.put(serde_json::from_value(json!({ "name": "a", "variant": "jopsis" })).unwrap()).unwrap();
    let report = second.import(first.export()).unwrap();
    let expected =
        ImportReport { created: strings(&["b"]), replaced: strings(&["a"]), ..ImportReport::default() };
    assert_eq!(report, expected);
    assert_eq!((second.get("a"), second.get("b")), (first.get("a"), first.get("b")));
    assert_eq!(second.active().name, "krinkuto11");

    let mut hidden = ours("a");
    hidden["parameters"]["access-token"] = json!("***");
    let report = second.import(json!([hidden, ours("b")])).unwrap();
    assert_eq!(report, ImportReport { unchanged: strings(&["a", "b"]), ..ImportReport::default() });
    assert_eq!(second.get("a"), first.get("a"), "the secret stays");
}

#[test]
fn an_import_is_all_or_nothing() {
    let mut templates = Templates::default();
    templates.import(ours("a")).unwrap();
    let before = templates.export();
    let many = |count: usize| Json::Array((0..count).map(|at| ours(&format!("t{at}"))).collect());
    for (document, error) in [
        (json!(null), "it is neither"),
        (json!("a"), "it is neither"),
        (json!([]), "it holds no template"),
        (json!({ "templates": 1 }), "\"templates\" is no list"),
        (json!({ "templates": [] }), "it holds no template"),
        (json!({ "version": 2, "templates": [ours("b")] }), "it was exported by a newer version"),
        (json!({}), "templates[0]: missing field `name`"),
        (json!([ours("b"), 7]), "templates[1]: has something of another kind, expected"),
        (json!([ours("b"), ours("b")]), "templates[1].name: \"b\" is there twice"),
        (json!([ours("b"), ours("nano-ace")]), "the template \"nano-ace\" is built in"),
        (
            json!([ours("b"), { "name": "c", "variant": "jopsis", "more": 1 }]),
            "templates[1]: unknown field `more`",
        ),
        (json!([ours("b"), { "name": "c", "variant": "other" }]), "templates[1]: unknown variant `other`"),
        (
            json!([ours("b"), { "name": "c", "variant": "jopsis", "parameters": { "live-buffer": 0 } }]),
            "templates[1].parameters.live-buffer: is 0",
        ),
        (
            json!([{ "name": "C", "variant": "jopsis" }, { "name": "d", "variant": "x" }]),
            "templates[0].name: is \"C\"",
        ),
        (many(101), "it holds 101 templates"),
        (many(100), "there are 100 own templates already"),
    ] {
        let found = templates.import(document).unwrap_err();
        assert!(found.to_string().starts_with(error), "{error}: {found}");
        assert!(!found.remedy().is_empty());
        assert_eq!(templates.export(), before, "{error}");
    }
    let both = json!([{ "name": "C", "variant": "jopsis" }, { "name": "d", "variant": "x" }]);
    let Err(StoreError::Invalid(faults)) = templates.import(both) else { panic!("two are wrong") };
    assert_eq!(faults.len(), 2);
}

#[test]
fn a_template_of_the_system_before_is_taken_over() {
    let mut templates = Templates::default();
    let report = templates.import(theirs()).unwrap();
    assert_eq!(report.created, ["my-template-3"]);
    assert_eq!(
        report.left_out,
        [
            "templates[0].client-console is set by Millrace itself",
            "templates[0].bind-all is set by Millrace itself",
            "templates[0].memory_limit is no part of a template",
        ]
    );
    let rendered = templates.get("my-template-3").unwrap().render(Architecture::Amd64).unwrap();
    assert_eq!(rendered.image, "ghcr.io/krinkuto11/nano-ace:latest");
    assert_eq!(
        rendered.command.join(" "),
        "/acestream/acestreamengine --client-console --bind-all --http-port {http_port} \
         --https-port {https_port} --api-port {api_port} --port {p2p_port} --auto-slots 1 \
         --check-live-pos-interval 10 --core-dlr-periodic-check-interval 10 --live-buffer 10 \
         --live-cache-size 268435456 --live-cache-type memory --log-backup-count 3 --log-max-size 10485760 \
         --max-connections 200 --max-file-size 2147483648 --max-peers 40 --max-upload-slots 4 \
         --refill-buffer-interval 5 --stats-report-interval 60 --vod-buffer 5 --vod-cache-size 536870912 \
         --vod-cache-type disk"
    );
}

#[test]
fn its_platform_and_version_choose_the_image() {
    for (platform, amd64, arm, variant, image) in [
        ("amd64", "3.1.74", "3.2.14", "nano-ace", Some("ghcr.io/krinkuto11/nano-ace:3.1.74")),
        ("amd64", "3.2.11-py3.10", "3.2.13", "nano-ace", None),
        ("arm64", "3.1.74", "3.2.14", "jopsis", Some("jopsis/acestream:arm64-v3.2.14")),
        ("arm32", "3.1.74", "3.2.14", "jopsis", Some("jopsis/acestream:arm32-v3.2.14")),
        ("arm32", "3.2.11-py3.10", "3.2.13", "jopsis", None),
    ] {
        let mut document = theirs();
        document["config"]["platform"] = json!(platform);
        document["config"]["amd64_version"] = json!(amd64);
        document["config"]["arm_version"] = json!(arm);
        let mut templates = Templates::default();
        // All slots together, as a list.
        templates.import(json!([document])).unwrap();
        let template = templates.get("my-template-3").unwrap();
        assert_eq!((template.variant_word(), template.image.as_deref()), (variant, image), "{platform}");
    }
}

#[test]
fn what_the_system_before_has_wrong_is_told() {
    let enabled = |name: &str, kind: &str, value: Json| {
        theirs_with(
            "/config/parameters/0",
            json!({ "name": name, "type": kind, "value": value, "enabled": true }),
        )
    };
    for (document, error) in [
        (enabled("--nonsense", "int", json!(1)), "templates[0].parameters.nonsense: there is no such option"),
        (
            enabled("--live-buffer", "int", json!("x")),
            "templates[0].parameters.live-buffer: has a value that is not",
        ),
        (
            enabled("--live-buffer", "float", json!(1.5)),
            "templates[0].parameters.live-buffer: has a value that is",
        ),
        (enabled("--min-peers", "int", json!(-1)), "templates[0].parameters.min-peers: is -1"),
        (enabled("--log-file", "path", json!("")), "templates[0].parameters.log-file: is \"\""),
        (theirs_with("/config/parameters/0", json!(7)), "templates[0].parameters: has one without a name"),
        (theirs_with("/config/parameters", json!(7)), "templates[0].parameters: is no list"),
        (theirs_with("/config/platform", json!("mips")), "templates[0].platform: is \"mips\""),
        (
            theirs_with("/config/amd64_version", json!("a b")),
            "templates[0].image: \"ghcr.io/krinkuto11/nano-ace:a b\"",
        ),
        (theirs_with("/config", json!(7)), "templates[0]: \"config\" is no object"),
        (theirs_with("/name", json!("---")), "templates[0].name: is \"\""),
        (theirs_with("/name", json!(7)), "templates[0].name: is \"\""),
    ] {
        let mut templates = Templates::default();
        let found = templates.import(document).unwrap_err();
        assert!(found.to_string().starts_with(error), "{error}: {found}");
        assert_eq!(own(&templates), [""; 0], "{error}");
    }
    for (document, name, value) in [
        (enabled("--cache-dir", "path", json!("~/.ACEStream")), "cache-dir", None),
        (enabled("--port", "int", json!(8621)), "port", None),
        (enabled("--min-peers", "int", json!("7")), "min-peers", Some(Value::Number(7))),
        (enabled("--log-modules", "str", json!("a")), "log-modules", Some(Value::Text("a".into()))),
        (enabled("--log-stdout", "flag", json!(null)), "log-stdout", Some(Value::Flag(true))),
    ] {
        let mut templates = Templates::default();
        templates.import(document).unwrap();
        assert_eq!(templates.get("my-template-3").unwrap().parameters.get(name), value.as_ref(), "{name}");
    }
}

#[test]
fn any_name_becomes_one_of_ours_or_none() {
    let long = "a".repeat(100);
    for (theirs, ours) in [
        ("My Template (3)", "my-template-3"),
        ("low_latency.v2", "low_latency.v2"),
        ("  ÄÖ  x  ", "x"),
        ("._-", ""),
        ("日本", ""),
        (&long, &long[..63]),
    ] {
        assert_eq!(slug(theirs), ours, "{theirs}");
    }
}

/// JSON of which much has the names that are looked for.
fn json_value() -> impl Strategy<Value = Json> {
    let word = prop_oneof![
        Just("name"),
        Just("variant"),
        Just("config"),
        Just("parameters"),
        Just("templates"),
        Just("type"),
        Just("value"),
        Just("enabled"),
        Just("platform"),
        Just("environment"),
        Just("access-token"),
        Just("custom"),
        Just("jopsis"),
        Just("nano-ace"),
        Just("image"),
        Just("command"),
        Just("version"),
        Just("entrypoint"),
        Just("int"),
        Just("flag"),
        Just("--live-buffer"),
        Just("{http_port}"),
        Just("***"),
        Just("container_port"),
        Just("A_KEY"),
        Just("active"),
    ]
    .prop_map(str::to_owned);
    let text = prop_oneof![4 => word, 1 => any::<String>()];
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        Just(json!(1)),
        text.clone().prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Json::Array),
            prop::collection::btree_map(text.clone(), inner, 0..8)
                .prop_map(|map: BTreeMap<String, Json>| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_imported_or_refused(document in json_value()) {
        let mut templates = Templates::default();
        let before = templates.export();
        match templates.import(document) {
            Ok(_) => {
                for (template, _) in templates.list() {
                    template.render(Architecture::Arm32).ok();
                    prop_assert!(template.validate().is_ok());
                }
            }
            Err(_) => prop_assert_eq!(templates.export(), before),
        }
    }

    #[test]
    fn any_entry_is_imported_or_refused(name in "[a-z]{1,3}", entry in json_value(), config in json_value()) {
        let mut templates = Templates::default();
        for document in [
            json!({ "name": name, "config": { "parameters": [entry.clone()], "platform": "arm64", "x": config } }),
            json!({ "name": name, "config": config }),
            json!({ "name": name, "variant": "jopsis", "parameters": { "live-buffer": entry } }),
            json!({ "name": name, "variant": "custom", "image": "a", "command": config, "environment": entry }),
        ] {
            templates.import(document).ok();
        }
    }
}
