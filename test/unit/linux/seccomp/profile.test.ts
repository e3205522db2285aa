import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type ConditionalSeccomp,
  parseSeccompProfile,
  RUNTIME_DEFAULT,
  resolveSeccomp,
  type SeccompContext,
} from '../../../../src/linux/seccomp/index.ts';

const context: SeccompContext = { capabilities: ['CAP_CHOWN'], arch: 'x64', kernel: [6, 1] };

describe('a profile file', () => {
  test("in the runtime specification's format", () => {
    const profile = parseSeccompProfile(`{
      "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
      "architectures": ["SCMP_ARCH_X86_64"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
      "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"},
                   {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}]
    }`);
    expect(profile).toEqual({
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrnoRet: 38,
      architectures: ['SCMP_ARCH_X86_64'],
      flags: ['SECCOMP_FILTER_FLAG_LOG'],
      syscalls: [
        { names: ['read'], action: 'SCMP_ACT_ALLOW' },
        {
          names: ['clone'],
          action: 'SCMP_ACT_ALLOW',
          args: [{ index: 0, value: 0x7e02_0000, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }],
        },
      ],
    });
  });

  test("in Docker's format, resolved for this container and not read as unconditional", () => {
    const profile = parseSeccompProfile(`{
      "defaultAction": "SCMP_ACT_ERRNO",
      "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X32"]},
                  {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null}],
      "syscalls": [
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"name": "read", "action": "SCMP_ACT_ALLOW", "includes": {}, "excludes": {}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.2"}},
        {"names": ["chown"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["cacheflush"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm"]}},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_CHOWN"], "arches": ["s390"]}}
      ]
    }`);
    const resolved = resolveSeccomp(profile, context);
    expect(resolved.architectures).toEqual(['SCMP_ARCH_X86_64', 'SCMP_ARCH_X32']);
    expect(resolved.syscalls?.flatMap((rule) => rule.names)).toEqual(['read', 'ptrace', 'chown']);
    expect(resolved).not.toHaveProperty('archMap');
  });

  test('with 64-bit numbers keeps every digit', () => {
    const text = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read \\"9007199254740993"],
      "action":"SCMP_ACT_LOG","args":[{"index":0,"value":18446744073709551615,"valueTwo":9007199254740993,"op":"SCMP_CMP_EQ"}]}]}`;
    const rule = parseSeccompProfile(text).syscalls![0]!;
    expect(rule.args![0]).toMatchObject({ value: 0xffff_ffff_ffff_ffffn, valueTwo: 9_007_199_254_740_993n });
    expect(rule.names).toEqual(['read "9007199254740993']);
  });

  test('round-trips through JSON: the default profile', () => {
    const { syscalls, ...rest } = RUNTIME_DEFAULT;
    const text = JSON.stringify({
      ...rest,
      syscalls: syscalls?.map((rule) =>
        rule.includes?.minKernel
          ? { ...rule, includes: { minKernel: rule.includes.minKernel.join('.') } }
          : rule,
      ),
    });
    expect(parseSeccompProfile(text)).toEqual(RUNTIME_DEFAULT);
  });
});

describe('is refused with the path of what is wrong', () => {
  const rule = (fields: string) =>
    `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG"},{${fields}}]}`;
  const args = (fields: string) => rule(`"names":["a"],"action":"SCMP_ACT_LOG","args":[{${fields}}]`);

  test.each<[string, string, string, RegExp]>([
    ['no JSON', '{', '', /cannot read the seccomp profile: .*JSON/],
    ['a list', '[]', 'profile', /profile: expected an object, found \[\]/],
    ['no default action', '{}', 'defaultAction', /defaultAction: expected one of .*, found nothing/],
    ['a misspelt action', '{"defaultAction":"SCMP_ACT_ALOW"}', 'defaultAction', /found "SCMP_ACT_ALOW"/],
    [
      'an unknown field',
      '{"defaultAction":"SCMP_ACT_ALLOW","sysCalls":[]}',
      'sysCalls',
      /sysCalls: unknown field/,
    ],
    [
      'an unknown field of a rule',
      rule('"names":["a"],"action":"SCMP_ACT_LOG","errno":1'),
      'syscalls[1].errno',
      /unknown field/,
    ],
    [
      'a rule without names',
      rule('"action":"SCMP_ACT_LOG"'),
      'syscalls[1].names',
      /expected a list, found nothing/,
    ],
    [
      'an empty list of names',
      rule('"names":[],"action":"SCMP_ACT_LOG"'),
      'syscalls[1].names',
      /at least one/,
    ],
    [
      'an empty name',
      rule('"names":[""],"action":"SCMP_ACT_LOG"'),
      'syscalls[1].names[0]',
      /expected a text/,
    ],
    [
      'name and names',
      rule('"name":"a","names":["b"],"action":"SCMP_ACT_LOG"'),
      'syscalls[1].name',
      /not both/,
    ],
    [
      'an unknown operator',
      args('"index":0,"value":1,"op":"EQ"'),
      'syscalls[1].args[0].op',
      /expected one of SCMP_CMP_NE/,
    ],
    [
      'a negative value',
      args('"index":0,"value":-1,"op":"SCMP_CMP_EQ"'),
      'syscalls[1].args[0].value',
      /unsigned 64-bit integer, found -1/,
    ],
    [
      'a value of 65 bits',
      args('"index":0,"value":18446744073709551616,"op":"SCMP_CMP_EQ"'),
      'syscalls[1].args[0].value',
      /found 18446744073709551616/,
    ],
    [
      'a fraction',
      args('"index":0,"value":1.5,"op":"SCMP_CMP_EQ"'),
      'syscalls[1].args[0].value',
      /found 1.5/,
    ],
    [
      'a seventh argument',
      args('"index":6,"value":1,"op":"SCMP_CMP_EQ"'),
      'syscalls[1].args[0].index',
      /found 6/,
    ],
    [
      'a number as text',
      args('"index":"0","value":1,"op":"SCMP_CMP_EQ"'),
      'syscalls[1].args[0].index',
      /found "0"/,
    ],
    [
      'an unknown architecture',
      '{"defaultAction":"SCMP_ACT_ALLOW","architectures":["amd64"]}',
      'architectures[0]',
      /found "amd64"/,
    ],
    ['an unknown flag', '{"defaultAction":"SCMP_ACT_ALLOW","flags":["LOG"]}', 'flags[0]', /found "LOG"/],
    [
      'architectures and archMap',
      '{"defaultAction":"SCMP_ACT_ALLOW","architectures":[],"archMap":[]}',
      'archMap',
      /not both/,
    ],
    [
      'a bad kernel version',
      rule('"names":["a"],"action":"SCMP_ACT_LOG","includes":{"minKernel":"six"}'),
      'syscalls[1].includes.minKernel',
      /such as "4.8"/,
    ],
    [
      'a condition that nobody knows',
      rule('"names":["a"],"action":"SCMP_ACT_LOG","excludes":{"users":[]}'),
      'syscalls[1].excludes.users',
      /unknown field/,
    ],
  ])('%s', (_, text, field, message) => {
    expect(() => parseSeccompProfile(text)).toThrow(
      expect.objectContaining({
        code: 'SECCOMP_PROFILE_INVALID',
        message: expect.stringMatching(message),
        details: { field },
      }),
    );
  });

  test('a listener, by name', () => {
    expect(() =>
      parseSeccompProfile('{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/agent.sock"}'),
    ).toThrow(
      expect.objectContaining({ code: 'SECCOMP_NOTIFY_UNSUPPORTED', details: { field: 'listenerPath' } }),
    );
  });

  test('whatever JSON comes: a profile or a coded error, never anything else', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.json(),
          fc.string(),
          fc
            .record(
              {
                defaultAction: fc.constantFrom('SCMP_ACT_ALLOW', 'SCMP_ACT_ERRNO', 1),
                syscalls: fc.array(
                  fc.object({ key: fc.constantFrom('names', 'action', 'args', 'includes', 'x') }),
                ),
                archMap: fc.jsonValue(),
              },
              { requiredKeys: ['defaultAction'] },
            )
            .map((value) => JSON.stringify(value)),
        ),
        (text) => {
          let profile: ConditionalSeccomp | undefined;
          try {
            profile = parseSeccompProfile(text);
          } catch (error) {
            expect(error).toMatchObject({ code: expect.stringMatching(/^SECCOMP_/) });
          }
          if (profile !== undefined) expect(profile.defaultAction).toMatch(/^SCMP_ACT_/);
        },
      ),
    );
  });
});
