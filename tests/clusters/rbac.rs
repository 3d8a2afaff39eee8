//! The double's authorizer: the rules of `docs/kubernetes-rbac.yaml`, as an API server would apply them.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
}

impl User {
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec!["system:authenticated".into()],
        }
    }
}

/// A rule, the namespace it holds in (none: everywhere), and for whom.
struct Grant {
    rules: Vec<PolicyRule>,
    namespace: Option<String>,
    subjects: Vec<Subject>,
}

pub struct Rights(Vec<Grant>);

impl Rights {
    /// Every document of the file must be one of a known type: a typo in it fails the tests.
    pub fn shipped() -> Self {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/kubernetes-rbac.yaml");
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&std::fs::read_to_string(file).unwrap()).unwrap();
        let of = |kind: &'static str| documents.iter().filter(move |d| d["kind"] == kind).cloned();
        let roles: BTreeMap<String, Vec<PolicyRule>> = of("Role")
            .map(|d| serde_json::from_value::<Role>(d).unwrap())
            .map(|r| (r.metadata.name.unwrap(), r.rules.unwrap()))
            .collect();
        let mut cluster_roles: BTreeMap<String, Vec<PolicyRule>> = of("ClusterRole")
            .map(|d| serde_json::from_value::<ClusterRole>(d).unwrap())
            .map(|r| (r.metadata.name.unwrap(), r.rules.unwrap()))
            .collect();
        // Every cluster has this one.
        let own = |verbs: &[&str], resource: &str| PolicyRule {
            api_groups: Some(vec!["certificates.k8s.io".into()]),
            resources: Some(vec![resource.into()]),
            verbs: verbs.iter().map(|v| (*v).to_owned()).collect(),
            ..PolicyRule::default()
        };
        let bootstrapper = own(&["create", "get", "list", "watch"], "certificatesigningrequests");
        cluster_roles.insert("system:node-bootstrapper".into(), vec![bootstrapper]);
        let bound =
            of("RoleBinding").map(|d| serde_json::from_value::<RoleBinding>(d).unwrap()).map(|b| Grant {
                rules: roles[&b.role_ref.name].clone(),
                namespace: b.metadata.namespace,
                subjects: b.subjects.unwrap(),
            });
        let everywhere = of("ClusterRoleBinding")
            .map(|d| serde_json::from_value::<ClusterRoleBinding>(d).unwrap())
            .map(|b| Grant {
                rules: cluster_roles[&b.role_ref.name].clone(),
                namespace: None,
                subjects: b.subjects.unwrap(),
            });
        let rights = Self(bound.chain(everywhere).collect());
        assert!(rights.0.len() >= 5, "the file has lost its bindings");
        rights
    }

    pub fn allow(&self, user: &User, verb: &str, group: &str, resource: &str, namespace: &str) -> bool {
        if user.groups.iter().any(|g| g == "system:masters") {
            return true;
        }
        let is = |subject: &Subject| match subject.kind.as_str() {
            "ServiceAccount" => {
                let of = subject.namespace.as_deref().unwrap_or_default();
                user.name == format!("system:serviceaccount:{of}:{}", subject.name)
            }
            "Group" => user.groups.contains(&subject.name),
            _ => user.name == subject.name,
        };
        let has = |list: &Option<Vec<String>>, word: &str| list.iter().flatten().any(|w| w == word);
        self.0.iter().filter(|g| g.subjects.iter().any(is)).any(|grant| {
            let here = grant.namespace.as_deref().is_none_or(|n| n == namespace);
            here && grant.rules.iter().any(|rule| {
                has(&rule.api_groups, group)
                    && has(&rule.resources, resource)
                    && rule.verbs.iter().any(|v| v == verb)
                    && rule.resource_names.is_none()
            })
        })
    }
}
