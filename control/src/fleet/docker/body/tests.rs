//! Bodies as Docker reads them, and specs that give none.

use serde_json::{Value, json};

use super::{super::spec::tests::example, *};

const PORTS: Ports = Ports { http: 19000, https: Some(45000), api: None, p2p: Some(8621) };

fn body_of(spec: &EngineSpec, ports: &Ports) -> Result<Value, SpecError> {
    let fleet = FleetName::parse("main").unwrap();
    spec.body(ports, &fleet, "engine-1").map(|body| serde_json::to_value(body).unwrap())
}

#[test]
fn a_body_has_all_that_the_spec_says() {
    let mut body = body_of(&example(), &PORTS).unwrap();
    let mut exposed: Vec<_> = body["ExposedPorts"].as_object().unwrap().keys().cloned().collect();
    exposed.sort();
    assert_eq!(exposed, ["19000/tcp", "45000/tcp", "8621/tcp", "8621/udp"]);
    body.as_object_mut().unwrap().remove("ExposedPorts");
    let on = |ip: &str, port: &str| json!([{ "HostIp": ip, "HostPort": port }]);
    let hash = example().hash().to_string();
    assert_eq!(
        body,
        json!({
            "Image": "ghcr.io/example/engine:3.2",
            "Entrypoint": ["/engine"],
            "Cmd": ["--http-port", "19000", "--access-token", "tok-5678"],
            "Env": ["PASSWORD=hunter22", "HTTP_PORT=19000"],
            "StopSignal": "SIGTERM",
            "Labels": {
                "a": "1", "b": "2",
                "io.millrace.engine": "true", "io.millrace.port": "19000", "io.millrace.fleet": "main",
                "io.millrace.spec": hash, "io.millrace.ports": "http=19000,https=45000,p2p=8621",
                "acestream.http_port": "19000", "acestream.https_port": "45000",
                "host.http_port": "19000", "host.https_port": "45000",
                "acestream.engine_variant": "engine", "acestream.config_hash": hash,
                "acestream.config_generation": "1",
            },
            "HostConfig": {
                "NetworkMode": "bridge",
                "PortBindings": {
                    "19000/tcp": on("127.0.0.1", "19000"), "45000/tcp": on("127.0.0.1", "45000"),
                    "8621/tcp": on("0.0.0.0", "8621"), "8621/udp": on("0.0.0.0", "8621"),
                },
                "Memory": 1_073_741_824, "MemorySwap": 1_073_741_824, "NanoCpus": 1_500_000_000,
                "PidsLimit": 512, "ShmSize": 67_108_864,
                "Ulimits": [{ "Name": "nofile", "Soft": 8192, "Hard": 8192 }],
                "LogConfig": { "Type": "json-file", "Config": { "max-size": "10485760", "max-file": "3" } },
                "Tmpfs": { "/cache": "rw,size=268435456,mode=1777" },
                "Init": true, "AutoRemove": false, "RestartPolicy": { "Name": "no" },
            },
        })
    );
}

#[test]
fn ports_are_published_where_nothing_else_reaches_them() {
    let named = |by| Network::Named { name: "engines".into(), by };
    for (name, network, mode, published, at_host) in [
        ("bridge", Network::Bridge, "bridge", 4, true),
        ("a network's own address", named(Publish::Address), "engines", 0, false),
        ("a network's published ports", named(Publish::Ports), "engines", 4, true),
        ("host", Network::Host, "host", 0, true),
        ("another's", Network::Container("vpn".into()), "container:vpn", 0, false),
    ] {
        let body = body_of(&EngineSpec { network, ..example() }, &PORTS).unwrap();
        assert_eq!(body["HostConfig"]["NetworkMode"], mode, "{name}");
        let count = |value: &Value| value.as_object().map_or(0, serde_json::Map::len);
        assert_eq!(count(&body["HostConfig"]["PortBindings"]), published, "{name}");
        assert_eq!(count(&body["ExposedPorts"]), published, "{name}");
        assert_eq!(body["Labels"].get("host.http_port").is_some(), at_host, "{name}");
        assert_eq!(body["Labels"]["io.millrace.port"], "19000", "{name}");
    }
    let body = body_of(&EngineSpec { publish_on: "::1".parse().unwrap(), ..example() }, &PORTS).unwrap();
    let bindings = &body["HostConfig"]["PortBindings"];
    assert_eq!(
        (&bindings["19000/tcp"][0]["HostIp"], &bindings["8621/udp"][0]["HostIp"]),
        (&json!("::1"), &json!("::"))
    );
}

#[test]
fn what_is_not_set_is_left_to_the_image_and_the_daemon() {
    let limits = Limits {
        memory_bytes: None,
        nano_cpus: None,
        pids: None,
        nofile: None,
        shm_bytes: None,
        ..example().limits
    };
    let spec = EngineSpec {
        entrypoint: None,
        command: Vec::new(),
        environment: Vec::new(),
        cache: Cache::Layer,
        limits,
        network: Network::Host,
        ..example()
    };
    let body = body_of(&spec, &PORTS).unwrap();
    for field in ["Entrypoint", "Cmd", "Env", "Volumes", "ExposedPorts"] {
        assert_eq!(body.get(field), None, "{field}");
    }
    for field in
        ["Memory", "MemorySwap", "NanoCpus", "PidsLimit", "Ulimits", "ShmSize", "Tmpfs", "PortBindings"]
    {
        assert_eq!(body["HostConfig"].get(field), None, "{field}");
    }
    let body = body_of(&EngineSpec { cache: Cache::Volume, ..example() }, &PORTS).unwrap();
    assert_eq!((&body["Volumes"], body["HostConfig"].get("Tmpfs")), (&json!({ "/cache": {} }), None));
}

#[test]
fn placeholders_are_ports_and_braces_are_doubled() {
    let value = |name: &str| port_for(&PORTS, name);
    let placeholder = |name: &str| Err(SpecError::Placeholder(name.to_owned()));
    for (text, expected) in [
        ("", Ok("")),
        ("plain", Ok("plain")),
        ("--port={p2p_port}", Ok("--port=8621")),
        ("{http_port}{https_port}", Ok("1900045000")),
        ("{{http_port}}", Ok("{http_port}")),
        ("{{\"a\": {http_port}}}", Ok("{\"a\": 19000}")),
        ("a}b", Ok("a}b")),
        ("ä{http_port}ö", Ok("ä19000ö")),
        ("{api_port}", Err(SpecError::NoPort("api_port".into()))),
        ("{port}", placeholder("port")),
        ("{}", placeholder("")),
        ("{ä}", placeholder("ä")),
        ("{", Err(SpecError::Open)),
        ("a{http_port", Err(SpecError::Open)),
    ] {
        assert_eq!(fill(text, value), expected.map(str::to_owned), "{text}");
    }
}

#[test]
fn a_spec_that_docker_would_refuse_is_refused_before() {
    type Change = fn(&mut EngineSpec);
    let changes: [(Change, SpecError); 19] = [
        (|s| s.image.clear(), SpecError::Image(String::new())),
        (|s| s.image = "a b".into(), SpecError::Image("a b".into())),
        (|s| s.command.push("{x}".into()), SpecError::Placeholder("x".into())),
        (|s| s.entrypoint = Some(vec!["{api_port}".into()]), SpecError::NoPort("api_port".into())),
        (|s| s.environment[0].1 = "{".into(), SpecError::Open),
        (|s| s.environment[0].0.clear(), SpecError::Variable(String::new())),
        (|s| s.environment[0].0 = "A=B".into(), SpecError::Variable("A=B".into())),
        (|s| s.environment[0].0 = "HTTP_PORT".into(), SpecError::VariableTwice("HTTP_PORT".into())),
        (|s| s.command.push("a\0".into()), SpecError::Nul),
        (|s| s.extra_labels[0].0.clear(), SpecError::Label(String::new())),
        (|s| s.extra_labels[0].0 = "io.millrace.fleet".into(), SpecError::Label("io.millrace.fleet".into())),
        (|s| s.cache_dir = None, SpecError::CacheDir),
        (|s| s.cache_dir = Some("cache".into()), SpecError::CacheDir),
        (|s| s.cache = Cache::Tmpfs { bytes: 0 }, SpecError::Limit("tmpfs")),
        (|s| s.limits.memory_bytes = Some(LEAST_MEMORY - 1), SpecError::Limit("memory_bytes")),
        (|s| s.limits.memory_bytes = Some(u64::MAX), SpecError::Limit("memory_bytes")),
        (|s| s.limits.log_files = 0, SpecError::Limit("log_files")),
        (|s| s.limits.pids = Some(0), SpecError::Limit("pids")),
        (|s| s.network = Network::Container(String::new()), SpecError::Network),
    ];
    for (change, expected) in changes {
        let mut spec = example();
        change(&mut spec);
        assert_eq!(body_of(&spec, &PORTS), Err(expected));
    }
    let http = |http| Ports { http, ..PORTS };
    assert_eq!(body_of(&example(), &http(0)), Err(SpecError::PortZero("http")));
    assert_eq!(body_of(&example(), &http(8621)), Err(SpecError::PortTwice(8621)));
    let fleet = FleetName::parse("main").unwrap();
    for name in ["", "a", "-ab", "a b", "a/b", "ä-b"] {
        let refused = example().body(&PORTS, &fleet, name).unwrap_err();
        assert_eq!(refused, SpecError::Name(name.into()));
    }
}
