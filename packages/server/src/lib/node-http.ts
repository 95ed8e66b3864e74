/**
 * Of Node's HTTP. An `import` of it reads each of its names, and one of them, `WebSocket`, brings in the client that is
 * behind `fetch`: 16 MB and some 20 ms that no server needs.
 */
export const { createServer } = process.getBuiltinModule('node:http');
