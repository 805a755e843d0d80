use serde_json::json;

use super::*;
use crate::template::placeholder::tests::fill;

const ALL: Wants = Wants { https: true, api: true, p2p: true };

fn template(more: serde_json::Value) -> Template {
    let mut whole = json!({ "name": "mine" });
    whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

fn environment(rendered: &Rendered) -> String {
    let pairs = rendered.environment.iter();
    pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_variant_has_its_command_line_on_every_architecture() {
    let krinkuto11 = "python main.py --bind-all --http-port {http_port} --api-port {api_port} --port {p2p_port} \
         --disable-sentry --log-stdout --disable-upnp --live-cache-type memory \
         --live-mem-cache-size 104857600 --live-buffer 30";
    let krinkuto11_wants = Wants { https: false, api: true, p2p: true };
    let nano = "/acestream/acestreamengine --client-console --bind-all --http-port {http_port} \
         --https-port {https_port} --api-port {api_port} --port {p2p_port}";
    let jopsis = "ACESTREAM_ARGS=--client-console --bind-all --http-port {http_port} \
         --https-port {https_port} --api-port {api_port} --port {p2p_port}";
    let jopsis_arm = "python main.py --bind-all --http-port {http_port} --https-port {https_port} \
         --api-port {api_port} --port {p2p_port} --disable-sentry --log-stdout --disable-upnp \
         --live-cache-type memory --live-mem-cache-size 104857600";
    let ghcr = "ghcr.io/krinkuto11";
    let shm = Some("/dev/shm/.ACEStream");
    use Architecture::{Amd64, Arm32, Arm64};
    for (variant, architecture, image, command, variables, wants, cache_dir) in [
        (
            "krinkuto11",
            Amd64,
            format!("{ghcr}/acestream:latest-amd64"),
            krinkuto11,
            "",
            krinkuto11_wants,
            shm,
        ),
        (
            "krinkuto11",
            Arm64,
            format!("{ghcr}/acestream:latest-arm64"),
            krinkuto11,
            "",
            krinkuto11_wants,
            shm,
        ),
        (
            "krinkuto11",
            Arm32,
            format!("{ghcr}/acestream:latest-arm32"),
            krinkuto11,
            "",
            krinkuto11_wants,
            shm,
        ),
        ("nano-ace", Amd64, format!("{ghcr}/nano-ace:latest"), nano, "", ALL, Some("/root/.ACEStream")),
        ("jopsis", Amd64, "jopsis/acestream:x64".into(), "", jopsis, ALL, Some("/acestream/.ACEStream")),
        ("jopsis", Arm64, "jopsis/acestream:arm64-v3.2.13".into(), jopsis_arm, "", ALL, shm),
        ("jopsis", Arm32, "jopsis/acestream:arm32-v3.2.13".into(), jopsis_arm, "", ALL, shm),
    ] {
        let name = format!("{variant} {architecture:?}");
        let template = template(json!({ "variant": variant }));
        assert_eq!(template.variant_word(), variant);
        let rendered = template.render(architecture).unwrap();
        assert_eq!(rendered.image, image, "{name}");
        assert_eq!(rendered.command.join(" "), command, "{name}");
        assert_eq!(environment(&rendered), variables, "{name}");
        assert_eq!(rendered.wants, wants, "{name}");
        assert_eq!(rendered.cache_dir.as_deref(), cache_dir, "{name}");
        assert_eq!(rendered.entrypoint, None, "{name}");
    }
    for architecture in [Arm64, Arm32] {
        let error = template(json!({ "variant": "nano-ace" })).render(architecture).unwrap_err();
        let expected = format!("image: the variant nano-ace has none for {}", architecture.word());
        assert!(error.to_string().starts_with(&expected), "{error}");
        let own =
            template(json!({ "variant": "nano-ace", "image": "mine:arm" })).render(architecture).unwrap();
        assert_eq!((own.image.as_str(), own.command.join(" ").as_str()), ("mine:arm", nano));
    }
    for architecture in [Amd64, Arm64, Arm32] {
        let custom = template(json!({
            "variant": "custom", "image": "r.io/x@sha256:".to_owned() + &"a".repeat(64),
            "entrypoint": ["/sbin/init", "{api_port}"], "command": ["/engine", "-p{http_port}"],
            "environment": { "P2P": "{p2p_port}" }, "parameters": { "live-buffer": 10, "log-stdout": true },
        }));
        let rendered = custom.render(architecture).unwrap();
        assert_eq!(rendered.image, "r.io/x@sha256:".to_owned() + &"a".repeat(64));
        assert_eq!(rendered.entrypoint, Some(vec!["/sbin/init".into(), "{api_port}".into()]));
        assert_eq!(rendered.command, ["/engine", "-p{http_port}", "--live-buffer", "10", "--log-stdout"]);
        assert_eq!(rendered.environment, [("P2P".into(), "{p2p_port}".into())]);
        assert_eq!(rendered.wants, Wants { https: false, api: true, p2p: true });
        assert_eq!(rendered.cache_dir, None);
    }
}

#[test]
fn parameters_replace_what_the_variant_sets() {
    let begin = "python main.py --bind-all --http-port {http_port} --api-port {api_port} --port {p2p_port}";
    for (parameters, rest) in [
        (
            json!({ "live-buffer": 10, "live-mem-cache-size": "50MiB" }),
            "--disable-sentry --log-stdout --disable-upnp --live-cache-type memory --live-buffer 10 \
             --live-mem-cache-size 52428800",
        ),
        (
            json!({ "live-cache-type": "disk" }),
            "--disable-sentry --log-stdout --disable-upnp --live-buffer 30 --live-cache-type disk",
        ),
        (
            json!({ "live-cache-type": "memory" }),
            "--disable-sentry --log-stdout --disable-upnp --live-mem-cache-size 104857600 --live-buffer 30 \
             --live-cache-type memory",
        ),
        (
            json!({ "disable-upnp": false, "disable-sentry": true, "upload-limit": 2000 }),
            "--log-stdout --live-cache-type memory --live-mem-cache-size 104857600 --live-buffer 30 \
             --disable-sentry --upload-limit 2000",
        ),
    ] {
        let rendered = template(json!({ "variant": "krinkuto11", "parameters": parameters }))
            .render(Architecture::Amd64)
            .unwrap();
        assert_eq!(rendered.command.join(" "), format!("{begin} {rest}"));
    }
}

#[test]
fn the_variable_of_jopsis_stands_among_the_others() {
    let template = template(json!({
        "variant": "jopsis", "environment": { "AA": "1", "ZZ": "{http_port}" },
        "parameters": { "access-token": "t0ken", "live-cache-type": "memory", "live-cache-size": "200MiB" },
    }));
    let expected = "AA=1\nACESTREAM_ARGS=--client-console --bind-all --http-port {http_port} \
         --https-port {https_port} --api-port {api_port} --port {p2p_port} --access-token t0ken \
         --live-cache-size 209715200 --live-cache-type memory\nZZ={http_port}";
    assert_eq!(environment(&template.render(Architecture::Amd64).unwrap()), expected);
}

#[test]
fn the_cache_is_where_parameters_put_it() {
    for (parameters, dir) in [
        (json!({ "cache-dir": "/cache" }), "/cache"),
        (json!({ "state-dir": "/state" }), "/state"),
        (json!({ "state-dir": "/state", "cache-dir": "/cache" }), "/cache"),
    ] {
        let rendered = template(json!({ "variant": "nano-ace", "parameters": parameters }))
            .render(Architecture::Amd64)
            .unwrap();
        assert_eq!(rendered.cache_dir.as_deref(), Some(dir));
    }
}

#[test]
fn values_come_through_filling_as_they_are() {
    let template = template(json!({
        "variant": "nano-ace", "parameters": { "access-token": "a{http_port}{{b" },
        "environment": { "TOKEN": "{p2p_port", "PORT": "{http_port}" },
    }));
    let rendered = template.render(Architecture::Amd64).unwrap();
    let filled = |text: &String| fill(text).unwrap();
    let command: Vec<String> = rendered.command.iter().map(filled).collect();
    assert_eq!(
        command.join(" "),
        "/acestream/acestreamengine --client-console --bind-all --http-port 40000 --https-port 40001 \
         --api-port 40002 --port 40003 --access-token a{http_port}{{b"
    );
    let variables: Vec<String> = rendered.environment.iter().map(|(_, value)| filled(value)).collect();
    assert_eq!(variables, ["40000", "{p2p_port"]);
}

#[test]
fn what_is_not_valid_is_not_rendered_and_secrets_are_not_shown() {
    let bad = template(json!({ "variant": "jopsis", "parameters": { "http-port": 1, "live-buffer": 0 } }));
    let error = bad.render(Architecture::Amd64).unwrap_err();
    assert_eq!(error.field, "parameters.http-port");
    for variant in ["jopsis", "nano-ace"] {
        let secret = template(json!({
            "variant": variant, "parameters": { "access-token": "hunter" }, "environment": { "KEY": "hunter" },
        }));
        let rendered = secret.render(Architecture::Amd64).unwrap();
        let text = format!("{rendered:?}{rendered:#?}");
        assert!(!text.contains("hunter") && text.contains("KEY"), "{text}");
    }
}
