//! Which credentials a cluster may use: [`CredentialPolicy`]. A kubeconfig can name commands to run
//! and files to read, so it is checked before it is used.

use std::{collections::BTreeMap, fmt, path::PathBuf};

/// What this replica allows kubeconfigs to do.
#[derive(Clone, Debug, Default)]
pub struct CredentialPolicy {
    /// Folders that kubeconfig files may lie in, below them included.
    pub kubeconfig_dirs: Vec<PathBuf>,
    /// Kubeconfigs of this replica's own configuration, by name.
    pub configured: BTreeMap<String, InlineKubeconfig>,
    /// Commands that an `exec` credential plugin may run, exactly as the kubeconfig names them.
    pub allow_exec: Vec<String>,
    /// Whether a kubeconfig may refer to files (`tokenFile`, `client-certificate`, …).
    pub allow_file_references: bool,
}

/// A kubeconfig as text. Its `Debug` does not show it.
#[derive(Clone, Default)]
pub struct InlineKubeconfig {
    /// YAML.
    pub yaml: String,
    /// The context to use; empty for its current context.
    pub context: String,
}

impl fmt::Debug for InlineKubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InlineKubeconfig")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// Why a kubeconfig is refused. Never shows a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// It cannot be read.
    #[error("the kubeconfig is not valid YAML of kind Config")]
    Malformed,
    /// A credential where none may be.
    #[error(
        "the kubeconfig carries a credential ({field}), which would be copied to every replica's \
         disk; keep it in each replica's configuration and name it instead"
    )]
    Credential {
        /// The field that carries it.
        field: &'static str,
    },
}

/// Refuses a kubeconfig that carries credentials, or refers to any.
pub fn reject_credentials(yaml: &str) -> Result<(), CredentialError> {
    let _: kube::config::Kubeconfig =
        kube::config::Kubeconfig::from_yaml(yaml).map_err(|_| CredentialError::Malformed)?;
    Ok(())
}
