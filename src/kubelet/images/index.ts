export { type Credential, type KeyringEntry, lookup, repositoryOf } from './keyring.ts';
export { credentialFiles, NodeCredentials } from './node-credentials.ts';
export { type CredentialProvider, readProviderConfig } from './provider-config.ts';
export {
  allowlistProblem,
  defaultVerification,
  knownCredential,
  needsVerification,
  PullRecords,
  type PullVerification,
} from './pull-records.ts';
export { pullSecrets } from './pull-secrets.ts';
