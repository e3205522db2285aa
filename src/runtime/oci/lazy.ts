/** An OCI runtime's command line; what it needs is loaded when it is called. Returns the exit status. */
export async function runOci(argv: readonly string[]): Promise<number> {
  const { ociMain } = await import('./main.ts');
  return await ociMain(argv);
}
