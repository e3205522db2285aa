import { NodeletError } from '../../base/index.ts';
import { MESSAGES, type Message, type MessageName } from '../launch/protocol.gen.ts';
import { ByteReader, ByteWriter, readField, writeField } from '../launch/wire.ts';

const byCode = new Map(Object.entries(MESSAGES).map(([name, info]) => [info.code, name as MessageName]));

/** One packet: type u16, flags u16, request u32, fields. */
export function encodeMessage(message: Message, request: number): Buffer {
  const info = MESSAGES[message.type];
  const w = new ByteWriter();
  w.u16(info.code);
  w.u16(0);
  w.u32(request);
  for (const [name, type] of info.fields) writeField(w, type, message[name as keyof Message]);
  return w.finish();
}

export interface Packet {
  readonly message: Message;
  /** 0 for an event. */
  readonly request: number;
}

/** Throws SHIM_PROTOCOL where the bytes are no message. */
export function decodeMessage(data: Buffer): Packet {
  const r = new ByteReader(data);
  const type = byCode.get(r.u16());
  r.u16();
  const request = r.u32();
  if (type === undefined)
    throw new NodeletError('SHIM_PROTOCOL', 'the shim sent a message of an unknown type');
  const message: Record<string, unknown> = { type };
  for (const [name, field] of MESSAGES[type].fields) message[name] = readField(r, field);
  return { message: message as unknown as Message, request };
}
