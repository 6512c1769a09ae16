#!/usr/bin/env node
/**
 * The official TypeScript clients against a running server: @modelcontextprotocol/client 2.x in both eras and
 * @modelcontextprotocol/sdk 1.x, over every transport they have.
 *
 * usage: node clients.mjs [--help]     (Node >= 22; serve.py starts the server and sets the environment; prepare.sh
 *                                       installs the packages beside a copy of this file)
 *
 * With MCP_CATALOG=demo: connect, list, call, progress, read, prompt, subscribe, errors, cancel, many at once, on
 *   v2: HTTP (auto, pinned, legacy), HTTP+SSE (legacy), stdio (auto, legacy);
 *   v1: HTTP, HTTP+SSE, WebSocket, stdio, all legacy.
 * With MCP_CATALOG=everything: elicitation, sampling and roots asked for by a tool, a prompt that asks, list changes.
 *
 * One line per check, `ok - section: name` or `not ok - …`; the last line is `typescript clients (CATALOG): N passed,
 * N failed`. A section that cannot connect fails all its checks, so their number never depends on luck.
 */
import { isDeepStrictEqual } from 'node:util';

const MODERN = '2026-07-28';
const LEGACY = '2025-11-25';
const CHECK_TIMEOUT_MS = 15_000;
const INVALID_PARAMS = -32602;
const RESOURCE_NOT_FOUND = -32002;
const INFO = { name: 'erlmcp-shard-typescript-test', version: '1' };
const CAPABILITIES = { elicitation: {}, sampling: {}, roots: {} };
const { MCP_HTTP_URL: url, MCP_BASE_URL: base, MCP_BINARY: binary, MCP_CATALOG: catalog = 'demo' } = process.env;

if (process.argv.length > 2) {
    const { readFileSync } = await import('node:fs');
    console.log(readFileSync(new URL(import.meta.url), 'utf8').match(/\/\*\*\n([\s\S]*?) \*\//)[1].replace(/^ \* ?/gm, ''));
    process.exit(0);
}

const v2 = await import('@modelcontextprotocol/client');
const v2Stdio = await import('@modelcontextprotocol/client/stdio');
const v1 = await import('@modelcontextprotocol/sdk/client/index.js');
const v1Types = await import('@modelcontextprotocol/sdk/types.js');
const v1Http = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
const v1Sse = await import('@modelcontextprotocol/sdk/client/sse.js');
const v1Stdio = await import('@modelcontextprotocol/sdk/client/stdio.js');
const v1WebSocket = await import('@modelcontextprotocol/sdk/client/websocket.js');

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

function expect(condition, otherwise) {
    if (!condition) throw new Error(typeof otherwise === 'string' ? otherwise : JSON.stringify(otherwise));
}

async function until(condition, what, timeoutMs = 5000) {
    for (const end = Date.now() + timeoutMs; Date.now() < end; await sleep(20)) if (condition()) return;
    throw new Error(`${what} within ${timeoutMs} ms`);
}

async function within(ms, work, what) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`${what}: nothing for ${ms} ms`)), ms);
    });
    try {
        return await Promise.race([work, late]);
    } finally {
        clearTimeout(timer);
    }
}

/** What the user, the model and the file system of this client answer. */
const answers = {
    elicit: ({ params }) => ({
        action: 'accept',
        content: Object.fromEntries(
            Object.entries(params.requestedSchema.properties).map(([name, { type }]) => [name, type === 'boolean' ? true : 'Alice'])
        )
    }),
    sample: () => ({ role: 'assistant', content: { type: 'text', text: 'Paris' }, model: 'test-model', stopReason: 'endTurn' }),
    roots: () => ({ roots: [{ uri: 'file:///test/root', name: 'Test Root' }] })
};

/** One connected client of either package, with what it heard; the two differ in how a few things are spelt. */
class Peer {
    updated = [];
    toolsChanged = 0;
    asked = [];

    static async open(section) {
        const peer = new Peer();
        peer.section = section;
        peer.transport = section.transport();
        peer.client = section.v1 ? peer.#clientV1() : peer.#clientV2(section.mode);
        peer.client.onerror = () => {};
        await within(CHECK_TIMEOUT_MS, peer.client.connect(peer.transport), 'connect');
        return peer;
    }

    #clientV1() {
        const client = new v1.Client(INFO, { capabilities: CAPABILITIES });
        client.setNotificationHandler(v1Types.ResourceUpdatedNotificationSchema, n => void this.updated.push(n.params.uri));
        client.setNotificationHandler(v1Types.ToolListChangedNotificationSchema, () => void this.toolsChanged++);
        client.setRequestHandler(v1Types.ElicitRequestSchema, r => this.#answer('elicitation', answers.elicit(r)));
        client.setRequestHandler(v1Types.CreateMessageRequestSchema, r => this.#answer('sampling', answers.sample(r)));
        client.setRequestHandler(v1Types.ListRootsRequestSchema, r => this.#answer('roots', answers.roots(r)));
        return client;
    }

    #clientV2(mode) {
        const client = new v2.Client(INFO, { capabilities: CAPABILITIES, versionNegotiation: { mode } });
        client.setNotificationHandler('notifications/resources/updated', n => void this.updated.push(n.params.uri));
        client.setNotificationHandler('notifications/tools/list_changed', () => void this.toolsChanged++);
        client.setRequestHandler('elicitation/create', r => this.#answer('elicitation', answers.elicit(r)));
        client.setRequestHandler('sampling/createMessage', r => this.#answer('sampling', answers.sample(r)));
        client.setRequestHandler('roots/list', r => this.#answer('roots', answers.roots(r)));
        return client;
    }

    async #answer(kind, answer) {
        this.asked.push(kind);
        return answer;
    }

    /** 1.x takes a result schema between the parameters and the options. */
    call(name, args, options) {
        const params = { name, arguments: args };
        return this.section.v1 ? this.client.callTool(params, undefined, options) : this.client.callTool(params, options);
    }

    get version() {
        return this.section.v1 ? this.transport.protocolVersion : this.client.getNegotiatedProtocolVersion();
    }

    /** Subscribes to `uri` and returns what ends it. */
    async subscribe(uri) {
        if (this.section.modern) {
            const subscription = await this.client.listen({ resourceSubscriptions: [uri] });
            return () => subscription.close();
        }
        await this.client.subscribeResource({ uri });
        return () => this.client.unsubscribeResource({ uri });
    }

    close() {
        return within(CHECK_TIMEOUT_MS, this.client.close(), 'close');
    }
}

const textOf = result => result.content.filter(block => block.type === 'text').map(block => block.text).join('');

async function codeOf(promise) {
    try {
        return `no error: ${JSON.stringify(await promise)}`;
    } catch (error) {
        return error.code;
    }
}

const sameText = (wanted, result) => expect(!result.isError && textOf(result) === wanted, result);

const DEMO = {
    async 'negotiates'({ client, section, version }) {
        // Neither the SSE nor the WebSocket transport of 1.x tells the version; that it connected must do.
        const wanted = section.modern ? MODERN : LEGACY;
        expect(version === wanted || (section.v1 && version === undefined), `negotiated ${version}, not ${wanted}`);
        expect(client.getServerVersion()?.name, 'the server has no name');
        const { tools, resources, prompts } = client.getServerCapabilities();
        expect(tools && resources && prompts, client.getServerCapabilities());
    },
    async 'lists tools'({ client }) {
        const { tools } = await client.listTools();
        const names = tools.map(tool => tool.name);
        expect(['echo', 'add', 'wait', 'publish'].every(name => names.includes(name)), names);
        const { properties } = tools.find(tool => tool.name === 'add').inputSchema;
        expect('a' in properties && 'b' in properties, properties);
    },
    async 'calls echo'(peer) {
        const said = 'grüße \u2028 "quoted" \\ 日本 🦀';
        sameText(said, await peer.call('echo', { text: said }));
    },
    async 'calls add'(peer) {
        const result = await peer.call('add', { a: 2, b: 40 });
        expect(!result.isError && Number(textOf(result)) === 42, result);
        expect(isDeepStrictEqual(result.structuredContent, { sum: 42 }), result);
    },
    async 'hears progress'(peer) {
        const steps = [];
        const result = await peer.call('wait', { ms: 400 }, { onprogress: ({ progress }) => steps.push(progress) });
        expect(!result.isError, result);
        expect(steps.length > 0, 'no progress was heard');
        expect(steps.every((step, i) => i === 0 || steps[i - 1] < step), `progress must strictly increase: ${steps}`);
    },
    async 'reads resources'({ client }) {
        const listed = (await client.listResources()).resources.map(resource => resource.uri);
        expect(listed.includes('demo://greeting') && listed.includes('demo://clock'), listed);
        const [content] = (await client.readResource({ uri: 'demo://greeting' })).contents;
        expect(content.uri === 'demo://greeting' && content.text, content);
    },
    async 'reads a template'({ client }) {
        const templates = (await client.listResourceTemplates()).resourceTemplates.map(template => template.uriTemplate);
        expect(templates.includes('demo://echo/{text}'), templates);
        const [content] = (await client.readResource({ uri: 'demo://echo/hello' })).contents;
        expect(content.uri === 'demo://echo/hello' && content.text.includes('hello'), content);
    },
    async 'gets a prompt'({ client }) {
        const listed = (await client.listPrompts()).prompts.map(prompt => prompt.name);
        expect(listed.includes('greet'), listed);
        const { messages } = await client.getPrompt({ name: 'greet', arguments: { name: 'Ada' } });
        expect(messages[0].content.text.includes('Ada'), messages);
    },
    async 'hears an update'(peer) {
        const uri = 'demo://clock';
        const end = await peer.subscribe(uri);
        expect(!(await peer.call('publish', { uri })).isError, 'publish failed');
        await until(() => peer.updated.includes(uri), 'the update was not heard');
        await end();
    },
    async 'hears an update of another client'(peer) {
        // The publisher has connections of its own, which may well belong to the other shard.
        const uri = 'demo://greeting';
        const other = await Peer.open(peer.section);
        try {
            const end = await peer.subscribe(uri);
            expect(!(await other.call('publish', { uri })).isError, 'publish failed');
            await until(() => peer.updated.includes(uri), 'the update was not heard');
            await end();
        } finally {
            await other.close();
        }
    },
    async 'hears nothing after unsubscribing'(peer) {
        const uri = 'demo://echo/quiet';
        await (await peer.subscribe(uri))();
        expect(!(await peer.call('publish', { uri })).isError, 'publish failed');
        await sleep(400);
        expect(!peer.updated.includes(uri), 'heard an update after unsubscribing');
    },
    async 'refuses what is unknown'(peer) {
        const { client, section } = peer;
        // The 2.x client reports -32002 with `data.uri` as its own ResourceNotFoundError, whose code is -32602.
        const missing = section.v1 ? RESOURCE_NOT_FOUND : INVALID_PARAMS;
        const codes = {
            tool: [INVALID_PARAMS, await codeOf(peer.call('no-such-tool', {}))],
            resource: [missing, await codeOf(client.readResource({ uri: 'demo://nowhere' }))],
            prompt: [INVALID_PARAMS, await codeOf(client.getPrompt({ name: 'no-such-prompt' }))],
            argument: [INVALID_PARAMS, await codeOf(client.getPrompt({ name: 'greet', arguments: {} }))]
        };
        expect(Object.values(codes).every(([wanted, got]) => wanted === got), codes);
    },
    async 'tells bad arguments'(peer) {
        const result = await peer.call('add', { a: 'two', b: 40 });
        expect(result.isError && textOf(result), result);
    },
    async 'survives a cancelled call'(peer) {
        const call = peer.call('wait', { ms: 30_000 }, { signal: AbortSignal.timeout(300) });
        expect(await within(5000, call.then(() => false, () => true), 'cancel'), 'the call was not cancelled');
        sameText('still here', await peer.call('echo', { text: 'still here' }));
    },
    async 'answers many at once'(peer) {
        const texts = Array.from({ length: 60 }, (_, i) => `call ${i}`);
        const results = await Promise.all(texts.map(text => peer.call('echo', { text })));
        expect(isDeepStrictEqual(results.map(textOf), texts), 'mixed up');
    },
    async 'carries a large message'(peer) {
        const said = '0123456789abcdef'.repeat(24_576); // 384 KiB: far more than one receive buffer
        expect(textOf(await peer.call('echo', { text: said })) === said, 'the text came back different');
    },
    async 'answers ping or discover'({ client, section }) {
        if (!section.modern) await client.ping();
        else expect((await client.discover()).supportedVersions.includes(MODERN), 'discover');
    },
    async 'ends its session'(peer) {
        const ender = await Peer.open(peer.section);
        const { sessionId } = ender.transport;
        try {
            if (sessionId !== undefined) {
                await ender.transport.terminateSession();
                const headers = {
                    'Content-Type': 'application/json',
                    Accept: 'application/json, text/event-stream',
                    'MCP-Protocol-Version': LEGACY,
                    'Mcp-Session-Id': sessionId
                };
                const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' });
                const { status } = await fetch(url, { method: 'POST', headers, body });
                expect(status === 404, `a request in an ended session was answered with ${status}`);
            } else {
                expect(!peer.section.name.endsWith('http legacy'), 'a legacy HTTP session has no id');
            }
        } finally {
            await ender.close();
        }
        sameText('mine goes on', await peer.call('echo', { text: 'mine goes on' }));
    }
};

const asks = (name, ...wanted) => async peer => {
    const result = await peer.call(name, {});
    expect(!result.isError && result.content, result);
    expect(isDeepStrictEqual(peer.asked.toSorted(), wanted), `asked ${peer.asked}`);
    return result;
};

const EVERYTHING = {
    async 'a tool asks the user'(peer) {
        const result = await asks('test_input_required_result_elicitation', 'elicitation')(peer);
        expect(textOf(result).includes('Alice'), result);
    },
    'a tool asks the model': asks('test_input_required_result_sampling', 'sampling'),
    'a tool asks for roots': asks('test_input_required_result_list_roots', 'roots'),
    'a tool asks everything at once': asks('test_input_required_result_multiple_inputs', 'elicitation', 'roots', 'sampling'),
    'a tool asks twice': asks('test_input_required_result_multi_round', 'elicitation', 'elicitation'),
    async 'a tool keeps its state'(peer) {
        const result = await peer.call('test_input_required_result_request_state', {});
        expect(textOf(result).includes('state-ok'), result);
    },
    async 'a prompt asks'(peer) {
        const { messages } = await peer.client.getPrompt({ name: 'test_input_required_result_prompt' });
        expect(messages.length > 0 && isDeepStrictEqual(peer.asked, ['elicitation']), `asked ${peer.asked}`);
    },
    async 'a tool fails politely'(peer) {
        const result = await peer.call('test_error_handling', {});
        expect(result.isError && textOf(result).includes('intentionally'), result);
    },
    async 'tools change'(peer) {
        const subscription = peer.section.modern ? await peer.client.listen({ toolsListChanged: true }) : undefined;
        const other = await Peer.open(peer.section);
        try {
            await other.call('test_trigger_tool_change', {});
            await until(() => peer.toolsChanged > 0, 'list_changed was not heard');
        } finally {
            await other.close();
            await subscription?.close();
        }
    },
    async 'a binary resource is whole'({ client }) {
        const [content] = (await client.readResource({ uri: 'test://static-binary' })).contents;
        expect(Buffer.from(content.blob, 'base64').subarray(1, 4).toString() === 'PNG', 'not a PNG');
    }
};
// Over stdio each client has a server process of its own, so nothing another client does can be heard.
const NEEDS_ONE_SERVER = ['hears an update of another client', 'tools change'];

const http = () => new v2.StreamableHTTPClientTransport(new URL(url));
const stdio = { command: binary, args: ['--stdio', '--catalog', catalog], stderr: 'ignore' };
const SECTIONS = [
    { name: 'v2 http auto', mode: 'auto', transport: http },
    { name: 'v2 http pinned', mode: { pin: MODERN }, transport: http },
    { name: 'v2 http legacy', mode: 'legacy', transport: http },
    { name: 'v2 http+sse legacy', mode: 'legacy', transport: () => new v2.SSEClientTransport(new URL(`${base}/sse`)) },
    { name: 'v2 stdio auto', mode: 'auto', transport: () => new v2Stdio.StdioClientTransport(stdio) },
    { name: 'v2 stdio legacy', mode: 'legacy', transport: () => new v2Stdio.StdioClientTransport(stdio) },
    { name: 'v1 http legacy', v1: true, transport: () => new v1Http.StreamableHTTPClientTransport(new URL(url)) },
    { name: 'v1 http+sse legacy', v1: true, transport: () => new v1Sse.SSEClientTransport(new URL(`${base}/sse`)) },
    {
        name: 'v1 websocket legacy',
        v1: true,
        transport: () => new v1WebSocket.WebSocketClientTransport(new URL(`${url.replace(/^http/, 'ws')}/ws`))
    },
    { name: 'v1 stdio legacy', v1: true, transport: () => new v1Stdio.StdioClientTransport(stdio) }
].map(section => ({ ...section, modern: !section.v1 && section.mode !== 'legacy' }));

const reason = error => `${error?.name ?? 'Error'}: ${error?.message ?? JSON.stringify(error)}`.slice(0, 600);

/** Every check of `everything` gets a client of its own, since it counts questions; the demo checks share one. */
async function runSection(section, checks) {
    const verdicts = new Map();
    const batches = catalog === 'demo' ? [checks] : checks.map(check => [check]);
    for (const batch of batches) {
        let peer;
        try {
            peer = await Peer.open(section);
            for (const [name, check] of batch) {
                try {
                    await within(CHECK_TIMEOUT_MS, check(peer), name);
                    verdicts.set(name, undefined);
                } catch (error) {
                    verdicts.set(name, reason(error));
                }
            }
            await peer.close();
        } catch (error) {
            const [last] = batch.at(-1);
            for (const [name] of batch) if (!verdicts.has(name)) verdicts.set(name, `not connected: ${reason(error)}`);
            verdicts.set(last, verdicts.get(last) ?? `when closing: ${reason(error)}`);
            await peer?.close().catch(() => {});
        }
    }
    for (const [name, problem] of verdicts) {
        const title = `typescript ${section.name}: ${name}`;
        console.log(problem ? `not ok - ${title}: ${problem}` : `ok - ${title}`);
    }
    const failed = [...verdicts.values()].filter(Boolean).length;
    return [verdicts.size - failed, failed];
}

process.on('unhandledRejection', error => console.log(`# unhandled rejection: ${reason(error)}`));
let [passed, failed] = [0, 0];
for (const section of SECTIONS) {
    const local = section.name.includes('stdio');
    const checks = Object.entries(catalog === 'demo' ? DEMO : EVERYTHING).filter(
        ([name]) => !(local && NEEDS_ONE_SERVER.includes(name))
    );
    const [morePassed, moreFailed] = await runSection(section, checks);
    passed += morePassed;
    failed += moreFailed;
}
console.log(`typescript clients (${catalog}): ${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
