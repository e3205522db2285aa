/** `nodelet oci create` killed between its steps: `delete --force` takes away what there is, and the id is free again. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { OciFixture } from '../fixtures/oci.ts';

let oci: OciFixture;
beforeAll(() => {
  oci = new OciFixture();
});
afterAll(() => oci?.[Symbol.dispose]());

test.each(['oci.create.recorded', 'oci.create.shim', 'oci.create.started'])('%s', (failpoint) => {
  const bundle = oci.bundle(['sleep', '1000']);
  const killed = oci.run(['create', '--bundle', bundle.directory, bundle.id], {
    stdio: ['ignore', 'ignore', 'ignore'],
    env: { NODELET_FAILPOINTS: `${failpoint}=kill` },
  });
  expect(killed.signal ?? killed.status).toSatisfy((end) => end === 'SIGKILL' || end === 137);
  oci.ok(['delete', '--force', bundle.id]);
  expect(oci.leftovers(bundle.id)).toEqual([]);
  expect(oci.create(bundle)).toEqual({ status: 0, stderr: '' });
  oci.ok(['start', bundle.id]);
  expect(JSON.parse(oci.ok(['state', bundle.id]))).toMatchObject({ status: 'running' });
  oci.ok(['delete', '--force', bundle.id]);
  expect(oci.leftovers(bundle.id)).toEqual([]);
});
