export * from './api.gen.ts';
export * from './services.ts';
