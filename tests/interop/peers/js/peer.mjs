// A js-libp2p peer for the interoperability tests.
//
//   node --expose-gc peer.mjs <control port, 0 for any> '<json config>'
//
// The first line on stdout is {"ready": true, "control": port, "peer_id": ..., "addresses": [...]}.
// After it, POST {"cmd": ..., ...} to the control port answers {"ok": ...} or {"error": "..."}.
// The process ends when its standard input closes, so none is left behind.
//
// The Go peer (../go/main.go) answers the same commands; `Config` and the commands are described in ../README.md.
import { createHash } from 'node:crypto'
import http from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { quic } from '@chainsafe/libp2p-quic'
import { autoNAT } from '@libp2p/autonat'
import { autoNATv2 } from '@libp2p/autonat-v2'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { dcutr } from '@libp2p/dcutr'
import { identify, identifyPush } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'

const CHUNK = 64 * 1024
const MANY = 100_000
const PING = '/ipfs/ping/1.0.0'
const config = JSON.parse(process.argv[3] ?? '{}')
const dhtProtocol = config.dht_protocol === undefined ? '/wws/kad/1.0.0' : config.dht_protocol
const base64 = bytes => Buffer.from(bytes).toString('base64')
const unbase64 = text => new Uint8Array(Buffer.from(text, 'base64'))

// ---- streams ---------------------------------------------------------------

/** Every chunk until the other side's end of stream.
 *
 * Unlike the stream's own iterator it survives pause(), and an end that came while the protocol was negotiated: then
 * the stream says it ended while bytes behind the negotiation are still to come. */
async function * chunks (stream) {
  const queue = []
  const atEnd = () => stream.readableEnded && stream.readBufferLength === 0
  let ended = atEnd()
  let failure
  let wake = () => {}
  stream.addEventListener('message', event => { queue.push(event.data.subarray()); ended ||= atEnd(); wake() })
  stream.addEventListener('end', () => { ended = true; wake() })
  stream.addEventListener('close', event => { failure = event.error; ended = true; wake() })
  while (true) {
    while (queue.length > 0) yield queue.shift()
    if (failure != null) throw failure
    if (ended) return
    await new Promise(resolve => { wake = resolve })
  }
}

async function send (stream, bytes) {
  if (stream.send(bytes) === false) await stream.onDrain()
}

/** Everything until the end. It may fail before it is awaited, when the writing has failed already. */
function readAll (stream) {
  const all = (async () => {
    const parts = []
    for await (const chunk of chunks(stream)) parts.push(chunk)
    return Buffer.concat(parts)
  })()
  all.catch(() => {})
  return all
}

const handlers = {
  /** Sends back what comes, reading no faster than it can write. */
  '/test/echo/1': async stream => {
    for await (const chunk of chunks(stream)) {
      if (stream.send(chunk) === false) {
        if (stream.readStatus === 'readable') stream.pause()
        await stream.onDrain()
        if (stream.readStatus === 'paused') stream.resume()
      }
    }
    await stream.close()
  },
  /** Counts bytes until the end, answers the count in decimal. */
  '/test/sink/1': async stream => {
    let count = 0
    for await (const chunk of chunks(stream)) count += chunk.byteLength
    await send(stream, Buffer.from(String(count)))
    await stream.close()
  },
  /** The sink, at 64 KiB every 20 ms. */
  '/test/slow/1': async stream => {
    let count = 0
    for await (const chunk of chunks(stream)) {
      if (stream.readStatus === 'readable') stream.pause()
      count += chunk.byteLength
      await sleep(20 * Math.ceil(chunk.byteLength / CHUNK))
      if (stream.readStatus === 'paused') stream.resume()
    }
    await send(stream, Buffer.from(String(count)))
    await stream.close()
  },
  /** Reads to the end, then answers everything reversed: needs a half-close. */
  '/test/reverse/1': async stream => {
    await send(stream, (await readAll(stream)).reverse())
    await stream.close()
  },
  /** Reads something and stops reading, and then answers. js tells nobody: it reads on and drops. */
  '/test/deaf/1': async stream => {
    for await (const _ of chunks(stream)) break
    await stream.closeRead()
    await send(stream, Buffer.from('deaf'))
    await stream.close()
  },
  /** Reads something, then resets. */
  '/test/reset/1': async stream => {
    for await (const _ of chunks(stream)) break
    stream.abort(new Error('reset, as the protocol says'))
  }
}

// ---- the node --------------------------------------------------------------

const limits = { maxInboundStreams: 10_000, maxOutboundStreams: 10_000, runOnLimitedConnection: true }

async function transportOptions (key) {
  return {
    privateKey: key,
    transports: [
      tcp(),
      ...(config.quic ? [quic()] : []),
      ...(config.relay_client ? [circuitRelayTransport()] : [])
    ],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionManager: {
      maxConnections: MANY,
      inboundConnectionThreshold: MANY,
      maxIncomingPendingConnections: MANY,
      maxParallelDials: 1000
    },
    connectionGater: { denyDialMultiaddr: async () => false }
  }
}

function refuseBad (key, value) {
  if (Buffer.from(value).toString('latin1').startsWith('BAD')) throw new Error('the value starts with BAD')
}

const services = { identify: identify(), identifyPush: identifyPush(), ping: ping({ maxOutboundStreams: 64 }) }
if (config.relay != null) {
  services.relay = circuitRelayServer({
    reservations: {
      maxReservations: 1024,
      defaultDurationLimit: (config.relay.limit_seconds ?? 120) * 1000,
      defaultDataLimit: BigInt(config.relay.limit_bytes ?? 128 * 1024)
    }
  })
}
if (config.hole_punching) services.dcutr = dcutr()
if (config.autonat) {
  services.autoNAT = autoNAT({ refreshInterval: 1000, startupDelay: 0 })
  services.autoNATv2 = autoNATv2({ refreshInterval: 1000, startupDelay: 0 })
}
if (dhtProtocol != null) {
  services.dht = kadDHT({
    protocol: dhtProtocol,
    clientMode: config.dht_mode === 'client',
    peerInfoMapper: passthroughMapper, // keeps loopback addresses
    allowQueryWithZeroPeers: true,
    validators: { wws: refuseBad },
    selectors: { wws: () => 0 }
  })
}
const key = config.seed_hex != null
  ? await generateKeyPairFromSeed('Ed25519', new Uint8Array(Buffer.from(config.seed_hex, 'hex')))
  : await generateKeyPair('Ed25519')
const node = await createLibp2p({
  ...await transportOptions(key),
  addresses: { listen: config.listen ?? ['/ip4/127.0.0.1/tcp/0'], announce: config.announce ?? [] },
  nodeInfo: config.agent != null ? { userAgent: config.agent } : undefined,
  connectionMonitor: { enabled: config.monitor ?? true },
  services
})
for (const [protocol, handler] of Object.entries(handlers)) await node.handle(protocol, handler, limits)

/** The newest identify of each peer, and how many there were (a push counts). */
const identified = new Map()
node.addEventListener('peer:identify', ({ detail }) => {
  const peer = detail.peerId.toString()
  identified.set(peer, {
    agent: detail.agentVersion ?? '',
    protocol_version: detail.protocolVersion ?? '',
    protocols: detail.protocols,
    addresses: detail.listenAddrs.map(String),
    observed: detail.observedAddr?.toString() ?? '',
    signed_record: detail.signedPeerRecord != null,
    count: (identified.get(peer)?.count ?? 0) + 1
  })
})

// ---- commands --------------------------------------------------------------

const deadline = args => AbortSignal.timeout(args.timeout_ms ?? 20_000)
/** A stream on a connection that is there, also through a relay, where dialProtocol would dial anew. */
const open = async (args, protocol = args.protocol) => {
  const options = { signal: deadline(args), ...limits }
  const connections = node.getConnections(peerIdFromString(args.peer)).filter(one => one.status === 'open')
  const connection = connections.find(one => one.limits == null) ?? connections[0]
  if (connection != null) return connection.newStream(protocol, options)
  return node.dialProtocol(peerIdFromString(args.peer), protocol, options)
}
const describe = connection => ({
  peer_id: connection.remotePeer.toString(),
  addr: connection.remoteAddr.toString(),
  direction: connection.direction,
  security: connection.encryption,
  muxer: connection.multiplexer,
  limited: connection.limits != null,
  streams: connection.streams.map(stream => stream.protocol)
})
const providerKey = args =>
  args.cid != null ? CID.parse(args.cid) : CID.createV1(0x55, Digest.decode(unbase64(args.key_b64)))

/** The bytes 0, 1, … 250 over and over: a length that divides no buffer size, so a lost or moved chunk shows. */
function pattern (length, shift = 0) {
  const bytes = Buffer.allocUnsafe(length)
  for (let i = 0; i < length; i++) bytes[i] = (i + shift) % 251
  return bytes
}

async function echo (stream, data) {
  const answer = readAll(stream)
  for (let at = 0; at < data.length; at += CHUNK) await send(stream, data.subarray(at, at + CHUNK))
  await stream.close()
  return answer
}

/** Runs a DHT operation to its end; what went wrong on the way is part of the answer. */
async function follow (events, onEvent) {
  const errors = []
  for await (const event of events) {
    if (event.name === 'QUERY_ERROR') errors.push(`${event.from}: ${event.error.message}`)
    onEvent(event)
  }
  return errors
}
const wirePeer = peer => ({ peer_id: peer.id.toString(), addresses: peer.multiaddrs.map(String) })

const commands = {
  /** Keeps a reservation at the relay `addr` from now on, by listening there. */
  reserve: async args => {
    await node.components.transportManager.listen([multiaddr(`${args.addr}/p2p-circuit`)])
    return { addresses: node.getMultiaddrs().map(String).filter(address => address.includes('/p2p-circuit')) }
  },
  /** What the peer believes of its addresses, by AutoNAT of both versions. */
  reachability: async () => node.components.addressManager.getAddressesWithMetadata().map(address => ({
    addr: address.multiaddr.toString(), verified: address.verified, type: address.type
  })),
  info: async () => ({
    implementation: 'js',
    peer_id: node.peerId.toString(),
    addresses: node.getMultiaddrs().map(String),
    protocols: node.getProtocols()
  }),
  dial: async args => describe(await node.dial(multiaddr(args.addr), { signal: deadline(args) })),
  hangup: async args => { await node.hangUp(peerIdFromString(args.peer), { signal: deadline(args) }); return true },
  connections: async () => node.getConnections().map(describe),
  identify: async args => {
    const signal = deadline(args)
    while (!identified.has(args.peer) || identified.get(args.peer).count < (args.count ?? 1)) {
      await sleep(10, undefined, { signal }).catch(() => { throw new Error(`${args.peer} did not identify in time`) })
    }
    return identified.get(args.peer)
  },
  /** Registers a further echo protocol, which identify push then tells every peer. */
  handle: async args => { await node.handle(args.protocol, handlers['/test/echo/1'], limits); return true },

  /** The implementation's own ping service: js opens a stream for each ping. */
  ping: async args => {
    const times = []
    for (let i = 0; i < (args.n ?? 1); i++) {
      const start = performance.now()
      await node.services.ping.ping(peerIdFromString(args.peer), { signal: deadline(args) })
      times.push(performance.now() - start)
    }
    return times
  },
  /** n round trips on one ping stream. */
  ping_stream: async args => {
    const stream = await open(args, PING)
    const incoming = chunks(stream)
    const times = []
    for (let i = 0; i < args.n; i++) {
      const start = performance.now()
      await send(stream, pattern(32, i))
      const parts = []
      while (parts.reduce((sum, part) => sum + part.byteLength, 0) < 32) parts.push((await incoming.next()).value)
      times.push(performance.now() - start)
      if (!Buffer.concat(parts).equals(pattern(32, i))) throw new Error('the ping came back changed')
    }
    await stream.close()
    return times
  },
  /** Writes `data_b64`, or `bytes` of a pattern that is verified instead of returned. */
  echo: async args => {
    const data = args.data_b64 != null ? Buffer.from(args.data_b64, 'base64') : pattern(args.bytes)
    const start = performance.now()
    const answer = await echo(await open(args), data)
    const ms = performance.now() - start
    if (args.data_b64 != null) return { data_b64: base64(answer), ms }
    if (!answer.equals(data)) throw new Error(`${answer.length} of ${data.length} bytes came back, or changed`)
    return { bytes: answer.length, sha256: createHash('sha256').update(answer).digest('hex'), ms }
  },
  upload: async args => {
    const stream = await open(args)
    const answer = readAll(stream)
    const chunk = pattern(CHUNK)
    const start = performance.now()
    for (let left = args.bytes; left > 0; left -= CHUNK) await send(stream, chunk.subarray(0, Math.min(CHUNK, left)))
    await stream.close({ signal: AbortSignal.timeout(args.timeout_ms ?? 120_000) })
    return { acknowledged: Number(await answer), ms: performance.now() - start }
  },
  /** All n streams are open before the first one is closed. */
  streams: async args => {
    const start = performance.now()
    const all = await Promise.all(Array.from({ length: args.n }, () => open(args)))
    await Promise.all(all.map(async (stream, i) => {
      if (!(await echo(stream, pattern(1000, i))).equals(pattern(1000, i))) throw new Error(`stream ${i} came back changed`)
    }))
    return { verified: all.length, ms: performance.now() - start }
  },
  half_close: async args => {
    const stream = await open(args)
    const answer = readAll(stream)
    await send(stream, unbase64(args.data_b64))
    await stream.close()
    return { data_b64: base64(await answer) }
  },

  /** `stored`: who confirmed; js counts only a PUT_VALUE answer that repeats the value. */
  put: async args => {
    const stored = new Set()
    const failed = new Set()
    const operation = node.services.dht.put(Buffer.from(args.key), unbase64(args.value_b64), { signal: deadline(args) })
    const errors = await follow(operation, event => {
      if (event.name === 'PEER_RESPONSE' && event.messageName === 'PUT_VALUE') stored.add(event.from.toString())
      if (event.name === 'QUERY_ERROR') failed.add(event.from.toString())
    })
    return { stored: [...stored].filter(peer => !failed.has(peer)), errors }
  },
  get: async args => {
    let value
    const from = new Set()
    const errors = await follow(node.services.dht.get(Buffer.from(args.key), { signal: deadline(args) }), event => {
      if (event.name === 'VALUE') value = event.value
      if (event.name === 'PEER_RESPONSE' && event.record != null) from.add(event.from.toString())
    })
    return { value_b64: value == null ? null : base64(value), from: [...from], errors }
  },
  provide: async args => {
    const told = new Set()
    const errors = await follow(node.services.dht.provide(providerKey(args), { signal: deadline(args) }), event => {
      if (event.name === 'PEER_RESPONSE' && event.messageName === 'ADD_PROVIDER') told.add(event.from.toString())
    })
    return { told: [...told], errors }
  },
  find_providers: async args => {
    const found = new Map()
    const errors = await follow(node.services.dht.findProviders(providerKey(args), { signal: deadline(args) }), event => {
      if (event.name === 'PROVIDER') for (const peer of event.providers) found.set(peer.id.toString(), wirePeer(peer))
    })
    return { providers: [...found.values()], errors }
  },
  find_peer: async args => {
    let found
    const errors = await follow(node.services.dht.findPeer(peerIdFromString(args.peer), { signal: deadline(args) }), event => {
      if (event.name === 'FINAL_PEER') found = wirePeer(event.peer)
    })
    return { peer: found ?? null, errors }
  },
  routing_table: async () => {
    const peers = []
    const walk = bucket => {
      for (const peer of bucket.peers ?? []) peers.push(peer.peerId.toString())
      if (bucket.left != null) walk(bucket.left)
      if (bucket.right != null) walk(bucket.right)
    }
    walk(node.services.dht.routingTable.kb.root)
    return peers
  },

  /** Dials `addr` with n fresh identities; only the dialling is timed. With `keep` the connections stay open. */
  dialbench: async args => {
    const dialers = []
    for (let i = 0; i < args.n; i++) {
      dialers.push(await createLibp2p({
        ...await transportOptions(await generateKeyPair('Ed25519')),
        addresses: { listen: [] },
        connectionMonitor: { enabled: false },
        services: { identify: identify() }
      }))
    }
    const errors = {}
    let connected = 0
    let next = 0
    const start = performance.now()
    await Promise.all(Array.from({ length: args.concurrency ?? 1 }, async () => {
      while (next < dialers.length) {
        const dialer = dialers[next++]
        try {
          await dialer.dial(multiaddr(args.addr), { signal: AbortSignal.timeout(30_000) })
          connected++
        } catch (error) {
          errors[error.message] = (errors[error.message] ?? 0) + 1
        }
      }
    }))
    const ms = performance.now() - start
    if (args.keep) kept.push(...dialers)
    else await Promise.all(dialers.map(dialer => dialer.stop()))
    return { connected, errors, ms, rate: connected / ms * 1000 }
  },
  /** Closes what `dialbench` kept. */
  release: async () => { const count = kept.length; await Promise.all(kept.splice(0).map(dialer => dialer.stop())); return count },
  mem: async () => { globalThis.gc?.(); const { rss, heapUsed } = process.memoryUsage(); return { rss, heap: heapUsed } },
  cpu: async () => { const { user, system } = process.cpuUsage(); return { user: user / 1e6, system: system / 1e6 } }
}
const kept = []

// ---- the control port ------------------------------------------------------

async function answer (body) {
  try {
    const args = JSON.parse(body)
    if (!Object.hasOwn(commands, args.cmd)) throw new Error(`no command ${args.cmd}`)
    return { ok: await commands[args.cmd](args) }
  } catch (error) {
    const causes = (error.errors ?? []).map(cause => cause.message)
    return { error: [`${error.name}: ${error.message}`, ...causes].join('; ') }
  }
}

const control = http.createServer(async (request, response) => {
  const parts = []
  for await (const part of request) parts.push(part)
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify(await answer(Buffer.concat(parts).toString())))
})
control.requestTimeout = 0
control.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => console.log(JSON.stringify({
  ready: true,
  control: control.address().port,
  peer_id: node.peerId.toString(),
  addresses: node.getMultiaddrs().map(String)
})))
process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume()
