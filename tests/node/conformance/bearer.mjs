// Preloaded into the suite, which knows of no tokens: every request to the proxy carries one.
import http from "node:http";

import { getGlobalDispatcher, setGlobalDispatcher } from "undici";

const token = process.env.BEARER;
const add = (headers) => {
  if (Array.isArray(headers)) return [...headers, "authorization", `Bearer ${token}`];
  if (headers && typeof headers[Symbol.iterator] === "function") {
    return [...headers].flat().concat(["authorization", `Bearer ${token}`]);
  }
  return { ...headers, authorization: `Bearer ${token}` };
};
setGlobalDispatcher(
  getGlobalDispatcher().compose((dispatch) => (options, handler) =>
    dispatch({ ...options, headers: add(options.headers) }, handler)),
);

// Some checks need headers exactly as they are, and use Node's own client.
const request = http.request;
http.request = (...options) => {
  const sent = request(...options);
  sent.setHeader("Authorization", `Bearer ${token}`);
  return sent;
};
