//! What the charts become: the same each time, as expected, and valid for every version of Kubernetes that they name.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use trama_tests::charts::{
    folder, helm, kubeconform, kubernetes_versions, notes, object, objects, said, template,
};

const CHARTS: [&str; 2] = ["trama", "trama-crds"];
/// Each file beside the arguments that lead to it.
const GOLDENS: [(&str, &[&str]); 3] = [
    ("default.yaml", &[]),
    ("full.yaml", &["--values", "golden/full-values.yaml"]),
    ("emptydir.yaml", &["--set", "controlPlane.persistence.enabled=false"]),
];

#[test]
fn helm_has_nothing_to_say() {
    for chart in CHARTS {
        for (_, arguments) in GOLDENS.iter().filter(|(_, arguments)| chart == "trama" || arguments.is_empty())
        {
            let newest = kubernetes_versions().pop().unwrap();
            let lint = ["lint", "--strict", "--kube-version", &newest, chart];
            let told = said(&helm(&[&lint[..], arguments].concat()));
            assert!(told.as_ref().is_ok_and(|told| told.contains("0 chart(s) failed")), "{chart}: {told:?}");
        }
    }
}

#[test]
fn what_is_rendered_is_what_was_expected_each_time() {
    for (golden, arguments) in GOLDENS {
        let rendered = template("trama", arguments).unwrap();
        assert_eq!(rendered, template("trama", arguments).unwrap(), "{golden}: two renderings differ");
        expect(golden, &rendered);
        expect(&golden.replace(".yaml", "-notes.txt"), &notes("trama", arguments).unwrap());
    }
    assert_eq!(template("trama-crds", &[]).unwrap().trim(), "", "no custom resource is in use");
    expect("crds-notes.txt", &notes("trama-crds", &[]).unwrap());
}

fn expect(golden: &str, text: &str) {
    let path = folder().join("golden").join(golden);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "{} is not what is rendered; look at the difference that UPDATE_GOLDEN=1 makes. It is now:\n{text}",
        path.display()
    );
}

#[test]
fn what_is_switched_off_or_already_there_is_not_made() {
    let all = [
        "ConfigMap",
        "Deployment",
        "PersistentVolumeClaim",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    ];
    for (set, absent) in [
        ("commonLabels.a=b", ""),
        ("controlPlane.persistence.existingClaim=mine", "PersistentVolumeClaim"),
        ("controlPlane.persistence.enabled=false", "PersistentVolumeClaim"),
        ("controlPlane.podDisruptionBudget.enabled=false", "PodDisruptionBudget"),
        ("controlPlane.serviceAccount.create=false", "ServiceAccount"),
    ] {
        let objects = objects(&template("trama", &["--set", set]).unwrap());
        let mut kinds: Vec<&str> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, all.into_iter().filter(|kind| *kind != absent).collect::<Vec<_>>(), "{set}");
    }
}

#[test]
fn a_pod_uses_what_is_named() {
    let arguments = "controlPlane.persistence.existingClaim=mine,controlPlane.image.tag=2,controlPlane.serviceAccount.name=me";
    let objects = objects(&template("trama", &["--set-string", arguments]).unwrap());
    let pod = &object(&objects, "Deployment")["spec"]["template"]["spec"];
    let volumes = pod["volumes"].as_array().unwrap();
    assert!(
        volumes.iter().any(|volume| volume["persistentVolumeClaim"]["claimName"] == "mine"),
        "{volumes:?}"
    );
    assert_eq!(pod["containers"][0]["image"], "localhost/trama-control-plane:2");
    assert_eq!(pod["serviceAccountName"], "me");
    assert!(object(&objects, "ConfigMap").to_string().contains("account: me"), "its identity is another");
}

/// Every rule of the Pod Security Standard "restricted" that a pod can break, whatever the values are.
#[test]
fn the_pod_is_restricted() {
    for (golden, arguments) in GOLDENS {
        let objects = objects(&template("trama", arguments).unwrap());
        let pod = &object(&objects, "Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{golden}");
        assert_ne!(pod["securityContext"]["runAsUser"], 0, "{golden}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{golden}");
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[host].is_null(), "{golden}: {host}");
        }
        let kinds = ["configMap", "emptyDir", "persistentVolumeClaim", "secret"];
        for volume in pod["volumes"].as_array().unwrap() {
            assert!(kinds.iter().any(|kind| volume[kind].is_object()), "{golden}: {volume}");
        }
        for container in pod["containers"].as_array().unwrap() {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{golden}");
            assert_eq!(context["privileged"], false, "{golden}");
            assert_eq!(context["capabilities"], serde_json::json!({ "drop": ["ALL"] }), "{golden}");
            // More than the standard asks for.
            assert_eq!(context["readOnlyRootFilesystem"], true, "{golden}");
            let ports = container["ports"].as_array().unwrap();
            assert!(ports.iter().all(|port| port["hostPort"].is_null()), "{golden}");
        }
        assert!(pod["initContainers"].is_null(), "{golden}: not looked at");
    }
}

#[test]
fn every_version_of_kubernetes_takes_it() {
    let versions = kubernetes_versions();
    let oldest = versions[0].rsplit_once('.').unwrap().0;
    for chart in CHARTS {
        let text = std::fs::read_to_string(folder().join(chart).join("Chart.yaml")).unwrap();
        let range = format!("kubeVersion: \">={oldest}.0-0\"");
        assert!(text.contains(&range), "{chart}: the oldest version that is judged is {oldest}");
    }
    for (golden, arguments) in GOLDENS {
        let rendered = template("trama", arguments).unwrap();
        for version in &versions {
            kubeconform(&rendered, version).unwrap_or_else(|told| panic!("{golden}, {version}:\n{told}"));
        }
    }
}

/// The judge is worth nothing if it lets these pass.
#[test]
fn a_manifest_with_a_mistake_is_told() {
    let rendered = template("trama", &["--values", "golden/full-values.yaml"]).unwrap();
    let newest = kubernetes_versions().pop().unwrap();
    for (right, wrong, told) in [
        ("  replicas: 1", "  replcas: 1", "replcas"),
        ("  replicas: 1", "  replicas: one", "replicas"),
        ("unhealthyPodEvictionPolicy", "unhealthyPodsEvictionPolicy", "unhealthyPodsEvictionPolicy"),
        ("apiVersion: policy/v1\n", "apiVersion: policy/v1beta1\n", "could not find schema"),
        ("                - ALL", "                all: true", "drop"),
        ("        fsGroup: 1002", "        fsGroup: {}", "fsGroup"),
    ] {
        assert!(rendered.contains(right), "{right:?} is not rendered");
        let judged = kubeconform(&rendered.replace(right, wrong), &newest).unwrap_err();
        assert!(judged.contains(told), "{wrong}:\n{judged}");
    }
}

#[test]
fn an_older_kubernetes_is_refused() {
    let told = template("trama", &["--kube-version", "1.30.9"]).unwrap_err();
    assert!(
        told.contains("chart requires kubeVersion: >=1.31.0-0 which is incompatible with Kubernetes v1.30.9"),
        "{told}"
    );
    for version in kubernetes_versions() {
        assert!(template("trama", &["--kube-version", &version]).is_ok(), "{version}");
    }
}
