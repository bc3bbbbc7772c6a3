// The API page: Swagger UI. It signs the deliveries that you try there, and sends the token with
// the reads.
"use strict";

const secret = document.getElementById("secret");
const token = document.getElementById("token"); // null: the service has none
const state = document.getElementById("state");
const encoder = new TextEncoder();

function tellState() {
  if (!crypto.subtle) {
    state.value =
      "This browser can sign only on https:// or on localhost: deliveries from here are refused.";
  } else if (secret.value) {
    state.value = "The deliveries that you try here are signed. The secret does not leave this page.";
  } else {
    state.value = "Type the secret to sign the deliveries that you try here; without it they are refused.";
  }
}

// Returns the hex HMAC-SHA256 of the UTF-8 bytes of `text`, which are those that fetch() sends.
async function sign(text) {
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", encoder.encode(secret.value), algorithm, false, [
    "sign",
  ]);
  const signature = new Uint8Array(await crypto.subtle.sign("HMAC", key, encoder.encode(text)));
  return Array.from(signature, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function authorize(request) {
  if (request.method === "POST" && secret.value) {
    request.headers["X-Signature"] = await sign(request.body ?? "");
  } else if (request.method === "GET" && token?.value) {
    request.headers["Authorization"] = `Bearer ${token.value}`;
  }
  return request;
}

secret.disabled = !crypto.subtle;
secret.addEventListener("input", tellState);
tellState();

SwaggerUIBundle({
  url: new URL("../openapi.json", document.currentScript.src).href, // also for /docs/
  dom_id: "#api",
  requestInterceptor: authorize,
  validatorUrl: null, // the default one is another host
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
});
