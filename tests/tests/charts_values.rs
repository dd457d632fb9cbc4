//! Values that a chart refuses, each by its name.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use trama_tests::charts::template;

/// A wrong value, where the error says that it is, and what it says of it.
const WRONG: &[(&str, &str, &str)] = &[
    (r#"controlPlan={}"#, "at ''", "'controlPlan'"),
    (r#"controlPlane.replicas=2"#, "at '/controlPlane'", "'replicas'"),
    (r#"controlPlane=null"#, "at ''", "missing property 'controlPlane'"),
    (r#"controlPlane.persistence=null"#, "at '/controlPlane'", "missing property 'persistence'"),
    (r#"controlPlane.image.repository="Images.example/a""#, "at '/controlPlane/image/repository'", "pattern"),
    (r#"controlPlane.image.tag="a b""#, "at '/controlPlane/image/tag'", "pattern"),
    (r#"controlPlane.image.digest="sha256:12""#, "at '/controlPlane/image/digest'", "pattern"),
    (r#"controlPlane.image.pullPolicy="always""#, "at '/controlPlane/image/pullPolicy'", "one of 'Always'"),
    (r#"controlPlane.log="""#, "at '/controlPlane/log'", "pattern"),
    (
        r#"controlPlane.sealingKey.existingSecret="Key""#,
        "at '/controlPlane/sealingKey/existingSecret'",
        "pattern",
    ),
    (
        r#"controlPlane.traceAuthorities.existingConfigMap=["ca"]"#,
        "at '/controlPlane/traceAuthorities/existingConfigMap'",
        "want string",
    ),
    (r#"controlPlane.sealingKey.key="""#, "at '/controlPlane/sealingKey/key'", "pattern"),
    (
        r#"controlPlane.persistence.accessMode="ReadWriteMany""#,
        "at '/controlPlane/persistence/accessMode'",
        "ReadWriteOncePod",
    ),
    (r#"controlPlane.persistence.size="1 GB""#, "at '/controlPlane/persistence/size'", "pattern"),
    (r#"controlPlane.persistence.enabled="no""#, "at '/controlPlane/persistence/enabled'", "want boolean"),
    (r#"controlPlane.serviceAccount.name="""#, "at '/controlPlane/serviceAccount/name'", "pattern"),
    (r#"controlPlane.service.annotations.a=1"#, "at '/controlPlane/service/annotations/a'", "want string"),
    (r#"controlPlane.resources.limits.gpu=1"#, "at '/controlPlane/resources/limits'", "'gpu'"),
    (r#"controlPlane.resources.requests.cpu=-1"#, "at '/controlPlane/resources/requests/cpu'", "minimum"),
    (
        r#"controlPlane.securityContext.runAsUser=0"#,
        "at '/controlPlane/securityContext/runAsUser'",
        "minimum",
    ),
    (r#"controlPlane.securityContext.privileged=true"#, "at '/controlPlane/securityContext'", "'privileged'"),
    (
        r#"controlPlane.podDisruptionBudget.maxUnavailable=2"#,
        "at '/controlPlane/podDisruptionBudget/maxUnavailable'",
        "maximum",
    ),
    (
        r#"controlPlane.terminationGracePeriodSeconds=0"#,
        "at '/controlPlane/terminationGracePeriodSeconds'",
        "minimum",
    ),
    (r#"controlPlane.priorityClassName="High""#, "at '/controlPlane/priorityClassName'", "pattern"),
    (r#"controlPlane.nodeSelector={"a":true}"#, "at '/controlPlane/nodeSelector/a'", "want string"),
    (
        r#"controlPlane.tolerations=[{"operator":"In"}]"#,
        "at '/controlPlane/tolerations/0/operator'",
        "'Exists'",
    ),
    (r#"controlPlane.affinity.node={}"#, "at '/controlPlane/affinity'", "'node'"),
    (
        r#"controlPlane.topologySpreadConstraints=[{"maxSkew":1}]"#,
        "at '/controlPlane/topologySpreadConstraints/0'",
        "missing properties",
    ),
    (
        r#"controlPlane.podLabels={"app.kubernetes.io/name":"x"}"#,
        "at ''",
        "propertyName 'app.kubernetes.io/name'",
    ),
    (r#"controlPlane.podAnnotations={"checksum/config":"x"}"#, "at ''", "propertyName 'checksum/config'"),
    (r#"commonLabels={"team":"a b"}"#, "at '/commonLabels/team'", "pattern"),
    (r#"imagePullSecrets=["registry"]"#, "at '/imagePullSecrets/0'", "want object"),
    (r#"networkPolicy.sidecarsFrom=[]"#, "at '/networkPolicy/sidecarsFrom'", "minItems"),
    (
        r#"networkPolicy.metricsFrom=[{"ipBlock":{"cidr":"10.0.0.0"}}]"#,
        "at '/networkPolicy/metricsFrom/0/ipBlock/cidr'",
        "pattern",
    ),
];

/// The same for the program's fields, which are held to the program's own schema.
const WRONG_CONFIGURATION: &[(&str, &str, &str)] = &[
    (r#"controlPlane.config.limit={}"#, "at '/controlPlane/config'", "'limit'"),
    (r#"controlPlane.config.limits.streams=0"#, "at '/controlPlane/config/limits/streams'", "minimum"),
    (r#"controlPlane.config.timeouts.drain=5"#, "at '/controlPlane/config/timeouts/drain'", "want string"),
    (r#"controlPlane.config.timeouts.drain="5""#, "at '/controlPlane/config/timeouts/drain'", "pattern"),
    (
        r#"controlPlane.config.admin.identities=["x"]"#,
        "at '/controlPlane/config/admin/identities/0'",
        "pattern",
    ),
    // These are the chart's to say: the manifests name the same paths and ports.
    (r#"controlPlane.config.ports.health=1"#, "at '/controlPlane/config'", "'ports'"),
    (r#"controlPlane.config.store.path="/tmp""#, "at '/controlPlane/config/store'", "'path'"),
    (r#"controlPlane.config.admin.socket="/tmp/s""#, "at '/controlPlane/config/admin'", "'socket'"),
    (
        r#"controlPlane.config.traces.forward.authorities="/ca""#,
        "at '/controlPlane/config/traces/forward'",
        "'authorities'",
    ),
    (r#"controlPlane.config.workload.account="x""#, "at '/controlPlane/config'", "'workload'"),
];

fn refused(chart: &str, set: &str) -> String {
    match template(chart, &["--set-json", set]) {
        Ok(rendered) => panic!("{set} was taken:\n{rendered}"),
        Err(told) => told,
    }
}

#[test]
fn a_wrong_value_is_refused_by_its_name() {
    for (set, place, problem) in WRONG.iter().chain(WRONG_CONFIGURATION) {
        let told = refused("trama", set);
        let named = told.lines().any(|line| line.contains(place) && line.contains(problem));
        assert!(named, "{set}: {place} {problem} is not in\n{told}");
    }
    assert!(refused("trama-crds", r#"crds=true"#).contains("'crds'"));
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    let told = refused("trama", r#"controlPlane.persistence={"enabled":false,"existingClaim":"store"}"#);
    assert!(told.contains(r#"controlPlane.persistence.existingClaim: "store" is not used while"#), "{told}");
    let told = refused("trama", r#"controlPlane.traceAuthorities.existingConfigMap="ca""#);
    assert!(
        told.contains(r#"controlPlane.traceAuthorities.existingConfigMap: "ca" is not used unless"#),
        "{told}"
    );
}
