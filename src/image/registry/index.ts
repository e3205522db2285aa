export { RegistryClient, type RegistryOptions, type Repository } from './client.ts';
export { credentialFile, decodeBasic, readCredentials } from './credentials.ts';
export { type DownloadTarget, download } from './download.ts';
export { defaultRetry, type RetryPolicy } from './retry.ts';
