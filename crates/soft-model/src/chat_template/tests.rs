//! Templates in the idioms of published families; the texts are those of Jinja 3 in Python with
//! the settings of transformers.

use super::*;

const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

const LLAMA3: &str = "{{- bos_token }}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = \"\" %}
{%- endif %}
{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}
{%- if tools is not none %}
    {{- \"Environment: ipython\\n\" }}
{%- endif %}
{{- system_message }}
{{- \"<|eot_id|>\" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
";

const MISTRAL: &str = "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}";

const ZEPHYR: &str = "{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}";

const QWEN3: &str = "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == \"user\" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == \"assistant\" %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' + content.rstrip() + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{{- ns.last_query_index }}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}";

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, [("bos_token", "<s>"), ("eos_token", "</s>")]).unwrap()
}

fn talk(turns: &[(&str, &str)]) -> Vec<Message> {
    turns.iter().map(|(role, content)| Message::new(*role, *content)).collect()
}

fn rendered(source: &str, turns: &[(&str, &str)]) -> String {
    template(source).render(&talk(turns), true).unwrap()
}

fn refused(source: &str) -> String {
    match template(source).render(&talk(&[("user", "hi")]), true).unwrap_err() {
        Error::ChatTemplate(problem) => problem,
        other => panic!("{other}"),
    }
}

#[test]
fn t24_families_render_as_python_does() {
    let talk = [("user", "hi"), ("assistant", "<think>x</think>\n\nyes \n"), ("user", " why? ")];
    assert_eq!(
        rendered(CHATML, &talk),
        "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n\
         <|im_start|>assistant\n<think>x</think>\n\nyes \n<|im_end|>\n\
         <|im_start|>user\n why? <|im_end|>\n<|im_start|>assistant\n"
    );
    let with_system = [("system", " Be brief.\n"), ("user", "hi")];
    assert_eq!(
        rendered(LLAMA3, &with_system),
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n"
    );
    assert_eq!(
        rendered(MISTRAL, &talk),
        "<s>[INST] hi [/INST]<think>x</think>\n\nyes \n</s>[INST]  why?  [/INST]"
    );
    assert_eq!(
        rendered(ZEPHYR, &with_system),
        "<|system|>\n Be brief.\n</s>\n<|user|>\nhi</s>\n<|assistant|>\n"
    );
    assert_eq!(
        rendered(QWEN3, &talk),
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n\
         <|im_start|>user\n why? <|im_end|>\n2<|im_start|>assistant\n"
    );
}

#[test]
fn the_generation_prompt_can_be_left_out() {
    let text = template(CHATML).render(&talk(&[("system", "x")]), false).unwrap();
    assert_eq!(text, "<|im_start|>system\nx<|im_end|>\n");
}

#[test]
fn generation_tags_only_group() {
    let source = "{% for m in messages %}{%- generation -%} {{ m.content }} {%- endgeneration %}
{% generation %}
!{% endgeneration %}{% endfor %}";
    assert_eq!(rendered(source, &[("user", "a"), ("user", "b")]), "a!b!");
}

#[test]
fn functions_and_filters_of_transformers_are_there() {
    let source = "{{ messages | tojson }}|{{ ('{\"a\": 1}' | fromjson).a }}|{{ strftime_now('%Y') | length }}";
    let expected = r#"[{"role": "user", "content": "<b>"}]|1|4"#;
    assert_eq!(rendered(source, &[("user", "<b>")]), expected);
    let loops = "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}";
    assert_eq!(rendered(loops, &[("user", "")]), "01");
    assert_eq!(rendered("{{ tools is none }}{{ pad_token }}", &[]), "True");
}

#[test]
fn a_raised_exception_is_an_error_with_its_words() {
    let error = template(MISTRAL).render(&talk(&[("assistant", "x")]), true).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("Conversation roles must alternate"), "{error}");
}

#[test]
fn t24_mistakes_name_what_is_unknown() {
    let error = ChatTemplate::new("{% if %}", [("bos_token", "")]).unwrap_err();
    assert!(error.to_string().starts_with("chat template: syntax error"), "{error}");
    assert!(refused("{{ 1 | no_such_filter }}").contains("no_such_filter"));
    assert!(refused("{{ nothing.at.all }}").contains("undefined"));
}

#[test]
fn t24_a_hostile_template_ends_soon_and_small() {
    let nested =
        "{% for a in range(100000) %}{% for b in range(100000) %}{{ '' }}{% endfor %}{% endfor %}";
    assert!(refused(nested).contains("fuel"));
    let doubling = "{% set ns = namespace(s='a') %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}";
    refused(doubling);
    let error = ChatTemplate::new("{{ 'a' * 1000000000000 }}", [("bos_token", "")]).unwrap_err();
    assert!(error.to_string().contains("`*` that may repeat"), "{error}");
    refused("{% set n = 1000000000000 %}{{ 'a' * n }}");
    let long = "{% set n = 2000000 %}{{ 'a' * n }}";
    assert!(refused(long).contains("over the limit of 1048576 bytes"));
    refused("{% include '/etc/passwd' %}");
}

#[test]
fn t24_a_list_that_grows_without_end_becomes_no_text() {
    let grown = "{% set ns = namespace(a=['x' * 9999]) %}{% for i in range(24) %}\
                 {% set ns.a = ns.a + ns.a %}{% endfor %}";
    let ends = ["{{ ns.a }}", "{{ ns.a | string }}", "{{ ns.a | tojson }}", "{{ [{'a': ns.a}] }}"];
    for end in ends.into_iter().chain(["{{ ','.join(ns.a) }}"]) {
        let problem = refused(&format!("{grown}{end}"));
        assert!(problem.contains("more than 1048576 bytes of text"), "{end}: {problem}");
    }
    let small = "{% set a = [1, 'b'] + [{'c': none}] %}{{ a | tojson }}{{ a }}{{ a | string }}";
    let text = rendered(small, &[]);
    let own = text.strip_prefix(r#"[1, "b", {"c": null}]"#).unwrap();
    let (printed, string) = own.split_at(own.len() / 2);
    assert!(printed == string && printed.starts_with("[1, "), "{text}");
}

#[test]
fn t24_a_list_that_grows_without_end_is_not_copied() {
    let twice = "{% set ns = namespace(a=[1], b=[2]) %}{% for i in range(80) %}";
    for grown in [
        "{% set ns.a = ns.a + ns.a %}",
        "{% set ns.a = ns.a + ns.b %}{% set ns.b = ns.b + ns.a %}",
        "{% set ns.a = [ns.a, ns.a] %}{% set s = ns.a ~ '' %}",
        "{% set ns.a = {'x': ns.a, 'y': ns.a} %}{% set s = '' ~ ns.a %}",
        "{% set ns.a = [ns.a, ns.a] %}{% set s = ns.a | join %}",
        "{% set ns.a = [ns.a, ns.a] %}{% set s = ns.a | upper %}",
        "{% set ns.a = [ns.a, ns.a] %}{% set s = ns.a | unique %}",
        "{% set ns.a = [ns.a, ns.a] %}{% set s = 'x' | replace('x', ns.a) %}",
        "{% set ns.a = [ns.a, ns.a] %}{% if i > 60 %}{{ raise_exception(ns.a) }}{% endif %}",
    ] {
        let problem = refused(&format!("{twice}{grown}{{% endfor %}}"));
        let ends = ["more than 1048576 bytes of text", "fuel"];
        assert!(ends.iter().any(|end| problem.contains(end)), "{grown}: {problem}");
    }
    let long = "{% set ns = namespace(a=[]) %}{% for i in range(300) %}\
                {% set ns.a = ns.a + [i] %}{% endfor %}{{ ns.a | length }}";
    assert_eq!(rendered(long, &[]), "300");
}

#[test]
fn a_long_message_is_rendered_whole() {
    let long = "word ".repeat(400_000);
    let text = rendered(MISTRAL, &[("user", &long)]);
    assert_eq!(text.len(), "<s>[INST]  [/INST]".len() + long.len());
    let each = "{% for letter in messages[0].content %}{{ letter }}{% endfor %}";
    let long = &long[..200_000];
    assert_eq!(rendered(each, &[("user", long)]), long);
}
