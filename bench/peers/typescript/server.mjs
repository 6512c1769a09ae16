// The official TypeScript server SDK on node:http, as it recommends for speed: modern requests by a handler that
// answers with JSON (unless there is something to say before) and keeps nothing, legacy sessions by a transport each, JSON responses on.
//
// usage: node server.mjs PORT
//
// One process, one core, as node is; the SDK keeps sessions in memory.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { localhostHostValidation, localhostOriginValidation, NodeStreamableHTTPServerTransport, toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, isInitializeRequest, McpServer } from '@modelcontextprotocol/server';
import * as z from 'zod';

const input = z.object({ text: z.string().describe('What to answer with') });

function peer() {
    const server = new McpServer({ name: 'peer-typescript', version: '0.0.0' });
    const about = { description: 'Answers with the text it is given', inputSchema: input };
    server.registerTool('echo', about, ({ text }) => ({ content: [{ type: 'text', text }] }));
    return server;
}

const modern = toNodeHandler(createMcpHandler(peer, { legacy: 'reject' }));
const sessions = new Map();

async function open(req, res, message) {
    const transport = new NodeStreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        enableJsonResponse: true,
        onsessioninitialized: id => void sessions.set(id, transport),
    });
    transport.onclose = () => void sessions.delete(transport.sessionId);
    await peer().connect(transport);
    await transport.handleRequest(req, res, message);
}

async function read(req) {
    const pieces = [];
    for await (const piece of req) pieces.push(piece);
    return JSON.parse(Buffer.concat(pieces).toString());
}

const isOurHost = localhostHostValidation();
const isOurOrigin = localhostOriginValidation();

async function serve(req, res) {
    if (!isOurHost(req, res) || !isOurOrigin(req, res)) return;
    const id = req.headers['mcp-session-id'];
    if (id !== undefined) {
        const transport = sessions.get(id);
        if (transport) return transport.handleRequest(req, res);
        return void res.writeHead(404).end();
    }
    if (req.method !== 'POST') return void res.writeHead(405, { allow: 'POST' }).end();
    const message = await read(req);
    return isInitializeRequest(message) ? open(req, res, message) : modern(req, res, message);
}

const port = Number(process.argv[2]);
if (!Number.isInteger(port)) throw new Error('usage: node server.mjs PORT');
const server = createServer((req, res) => {
    serve(req, res).catch(error => {
        if (!res.headersSent) res.writeHead(400);
        res.end(String(error));
    });
});
// A benchmark holds connections idle for longer than the default of five seconds.
server.keepAliveTimeout = 3_600_000;
server.listen(port, '127.0.0.1', 1024, () => console.log(`ready http://127.0.0.1:${server.address().port}/mcp`));
