// What a program in JavaScript does with OpenAI's own SDK: `node journey.mjs BASE_URL KEY` prints what it met as JSON.

import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Say something." }];
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];

async function streamed(fields) {
  const stream = await client.chat.completions.create({ model: "sim-3c-split7", messages, stream: true, ...fields });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    const { status, code, type, param, requestID } = error;
    return { kind: error.constructor.name, status: status ?? null, code, type, param: param ?? null, requestID };
  }
  throw new Error("it did not fail");
}

const seen = {};

seen.whole = await client.chat.completions.create({ model: "sim-3c-split7", messages, data_policy: "india_only" });
const { data, response, request_id } = await client.chat.completions
  .create({ model: "sim-3c-split7", messages })
  .withResponse();
seen.headers = { provider: response.headers.get("x-br-provider"), cost: response.headers.get("x-br-cost-inr") };
seen.requestID = request_id;
seen.sameAnswer = data.choices[0].message.content === seen.whole.choices[0].message.content;

seen.stream = await streamed({});
seen.streamAskedForUsage = await streamed({ stream_options: { include_usage: true } });
const helper = client.chat.completions.stream({ model: "sim-3c-split7", messages });
seen.helper = await helper.finalChatCompletion();

const asked = [{ role: "user", content: "What is the weather in Pune" }];
const called = await client.chat.completions.create({ model: "steady", messages: asked, tools });
seen.call = called.choices[0].message.tool_calls[0];
const answered = await client.chat.completions.create({
  model: "steady",
  messages: [...asked, called.choices[0].message, { role: "tool", tool_call_id: seen.call.id, content: "31 °C" }],
  tools,
});
seen.toolAnswer = answered.choices[0].message.content;
const calls = await streamed({ model: "steady", messages: asked, tools });
seen.streamedArguments = calls
  .flatMap((chunk) => chunk.choices.flatMap((choice) => choice.delta.tool_calls ?? []))
  .map((call) => call.function.arguments)
  .join("");

const embedded = await client.embeddings.create({ model: "steady-embedding", input: ["one", "two"], dimensions: 4 });
seen.dimensions = embedded.data.map((row) => row.embedding.length);
seen.embeddingUsage = embedded.usage;
const floats = await client.embeddings.create({
  model: "steady-embedding",
  input: ["one"],
  dimensions: 4,
  encoding_format: "float",
});
seen.sameVector = floats.data[0].embedding.every((one, i) => Math.abs(one - embedded.data[0].embedding[i]) < 1e-6);

seen.models = [];
for await (const model of client.models.list()) seen.models.push(model.id);
seen.model = (await client.models.retrieve("acme/steady-v1")).id;

const create = (fields) => client.chat.completions.create({ model: "steady", messages, ...fields });
seen.failures = {
  key: await failure(new OpenAI({ baseURL, apiKey: "br-no", maxRetries: 0 }).models.list()),
  model: await failure(create({ model: "nobody/knows" })),
  request: await failure(create({ max_tokens: "many" })),
  cost: await failure(create({ max_cost_inr: "0.0000001" })),
  routes: await failure(create({ model: "sim-err500" })),
  routesStreamed: await failure(create({ model: "sim-err500", stream: true })),
  broken: await failure(streamed({ model: "sim-3c-cut1" })),
};

console.log(JSON.stringify(seen));
