export { Bandwidth } from './bandwidth.ts';
export {
  type Answer,
  RegistryClient,
  type RegistryOptions,
  type Repository,
  type RepositoryOptions,
} from './client.ts';
export { credentialFile, decodeBasic, findCredentials, readCredentials } from './credentials.ts';
export { type DownloadTarget, download } from './download.ts';
export type { Endpoint } from './endpoints.ts';
export { type ChunkPolicy, defaultChunks } from './pieces.ts';
export { type PushBlob, type PushOptions, push } from './push.ts';
export { defaultRetry, type RetryPolicy } from './retry.ts';
