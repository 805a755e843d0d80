//! From settings and templates to what a container is made from.

use super::{CacheKind, Container};
use crate::{
    fleet::docker::{Cache, EngineSpec, HostLook, Limits, Network, Publish},
    template::{Architecture, Rendered, Template, Templates, Wants},
};

/// Why there is nothing to make engines from.
#[derive(Debug)]
pub(super) struct Unusable {
    pub(super) message: String,
    pub(super) remedy: String,
}

/// The template in force.
pub(super) fn template<'a>(container: &Container, templates: &'a Templates) -> Option<&'a Template> {
    match container.template.as_str() {
        "" => Some(templates.active()),
        name => templates.get(name),
    }
}

/// What engines are made from on this host.
pub(super) fn of(
    container: &Container,
    templates: &Templates,
    host: &HostLook,
) -> Result<(EngineSpec, Wants), Unusable> {
    let unusable = |message: String, remedy: &str| Unusable { message, remedy: remedy.to_owned() };
    let template = template(container, templates).ok_or_else(|| {
        unusable(
            format!("there is no template {:?}", container.template),
            "name one of /api/v1/templates in docker.template, or leave it empty",
        )
    })?;
    // Without the version, as in arm/v7.
    let word = host.architecture.split('/').next().unwrap_or_default();
    let architecture = Architecture::from_docker(word).ok_or_else(|| {
        unusable(
            format!("no engine runs on {:?}", host.architecture),
            "use a host of the architecture amd64, arm64 or arm",
        )
    })?;
    let Rendered { image, entrypoint, command, environment, wants, cache_dir } =
        template.render(architecture).map_err(|error| {
            unusable(
                format!("template {:?}: {error}", template.name),
                "mend it with PUT /api/v1/templates/{name}, or activate another one",
            )
        })?;
    let spec = EngineSpec {
        image: container.image.clone().unwrap_or(image),
        entrypoint,
        command,
        environment,
        cache_dir,
        cache: match container.cache {
            CacheKind::Layer => Cache::Layer,
            CacheKind::Tmpfs => Cache::Tmpfs { bytes: container.cache_bytes },
            CacheKind::Volume => Cache::Volume,
        },
        limits: Limits {
            memory_bytes: container.memory,
            nano_cpus: container.milli_cpus.map(|milli| milli.saturating_mul(1_000_000)),
            pids: container.pids,
            nofile: container.nofile,
            log_bytes: container.log_bytes,
            log_files: container.log_files,
            shm_bytes: None,
        },
        network: match container.network.as_str() {
            "" | "bridge" => Network::Bridge,
            "host" => Network::Host,
            name => match name.strip_prefix("container:") {
                Some(lender) => Network::Container(lender.to_owned()),
                None => Network::Named { name: name.to_owned(), by: Publish::Address },
            },
        },
        publish_on: container.publish_on,
        variant: template.variant_word().to_owned(),
        extra_labels: container.predecessor_label.iter().cloned().collect(),
    };
    Ok((spec, wants))
}
